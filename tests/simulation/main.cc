// Runs simulated histories (simulation.h). Exit status 1 where a promise was broken.
//
//   simulate --seed 17              one history; --print shows it
//   simulate --seeds 2000           seeds 1 to 2000 (--from N: beginning there), on all cores
//                                   (--threads N: on so many)
//   simulate --bug NAME ...         with a planted bug (planted_bugs.h)
#include <fmt/core.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "tests/simulation/simulation.h"

namespace moe::simulation {
namespace {

struct Flags {
  Options options;
  uint64_t from = 1;
  uint64_t count = 1;
  size_t num_threads = std::max(1u, std::thread::hardware_concurrency());
};

// How to repeat what each thread runs; empty: nothing.
constexpr size_t kMaxThreads = 256;
std::array<std::string, kMaxThreads> present_commands;

// A broken MOE_CHECK, or an assertion in one of RocksDB's threads, ends the process: say how to
// come there again.
void SayCommands(int) {
  for (const std::string& command : present_commands) {
    if (!command.empty()) std::fprintf(stderr, "  repeat it with: %s\n", command.c_str());
  }
  std::signal(SIGABRT, SIG_DFL);
}

std::string Repeat(const std::string& program, const Options& options) {
  return fmt::format("{} --seed {}{} --print", program, options.seed,
                     options.bug == PlantedBug::kNone ? "" : " --bug " + NameOf(options.bug));
}

int RunOne(const std::string& program, const Options& options) {
  present_commands[0] = Repeat(program, options);
  const Outcome outcome = Simulate(options);
  fmt::print("seed={} hash={:016x} events={} simulated_s={} coordinator_starts={}\n", options.seed,
             outcome.hash, outcome.events, outcome.millis / 1000, outcome.starts);
  if (!outcome.violation.has_value()) return 0;
  fmt::print("BROKEN: {}\n  repeat it with: {}\n", *outcome.violation, Repeat(program, options));
  return 1;
}

int RunMany(const std::string& program, const Flags& flags) {
  std::atomic<uint64_t> next = flags.from;
  absl::Mutex mutex;
  int64_t events = 0, millis = 0, starts = 0, broken = 0;
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  for (size_t i = 0; i < std::min(kMaxThreads, flags.num_threads); ++i) {
    threads.emplace_back([&, i] {
      for (Options options = flags.options;;) {
        options.seed = next++;
        if (options.seed >= flags.from + flags.count) break;
        present_commands[i] = Repeat(program, options);
        const Outcome outcome = Simulate(options);
        absl::MutexLock lock(&mutex);
        events += outcome.events;
        millis += outcome.millis;
        starts += outcome.starts;
        if (!outcome.violation.has_value()) continue;
        ++broken;
        fmt::print("seed={} BROKEN: {}\n  repeat it with: {}\n", options.seed, *outcome.violation,
                   Repeat(program, options));
        std::fflush(stdout);
      }
      present_commands[i].clear();
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  fmt::print(
      "seeds={} broken={} events={} simulated_hours={:.0f} coordinator_starts={} "
      "seconds={:.1f}\n",
      flags.count, broken, events, static_cast<double>(millis) / 3.6e6, starts, seconds);
  return broken == 0 ? 0 : 1;
}

int Main(int argc, char** argv) {
  spdlog::set_level(spdlog::level::off);
  std::signal(SIGABRT, SayCommands);
  Flags flags;
  bool many = false;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 < argc) return argv[++i];
      fmt::print(stderr, "{} needs a value\n", flag);
      std::exit(2);
    };
    if (flag == "--seed") {
      flags.options.seed = std::stoull(value());
    } else if (flag == "--seeds") {
      flags.count = std::stoull(value());
      many = true;
    } else if (flag == "--from") {
      flags.from = std::stoull(value());
    } else if (flag == "--threads") {
      flags.num_threads = std::max(1ul, std::stoul(value()));
    } else if (flag == "--print") {
      flags.options.print = true;
    } else if (flag == "--bug") {
      const std::string name = value();
      const auto bug = PlantedBugNamed(name);
      if (!bug.has_value()) {
        fmt::print(stderr, "there is no bug '{}'; there are:\n", name);
        for (const auto& [which, known] : AllPlantedBugs()) fmt::print(stderr, "  {}\n", known);
        return 2;
      }
      flags.options.bug = *bug;
    } else {
      fmt::print(stderr, "unknown option '{}'; see the head of tests/simulation/main.cc\n", flag);
      return 2;
    }
  }
  return many ? RunMany(argv[0], flags) : RunOne(argv[0], flags.options);
}

}  // namespace
}  // namespace moe::simulation

int main(int argc, char** argv) { return moe::simulation::Main(argc, argv); }
