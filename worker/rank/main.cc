// moe-rank: one process of an attempt. Started by moe-worker, or by hand with a run folder
// (docs/formats/run-folder.md).
//
// Exit codes: 0 finished or stopped as told, 1 failed (the report says why), 2 it could not start:
// usage, or no readable run folder.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "common/log.h"
#include "common/run_channel.h"
#include "common/status.h"
#include "worker/rank/device.h"
#include "worker/rank/failure.h"
#include "worker/rank/job.h"
#include "worker/rank/probe.h"
#include "worker/rank/run_spec.h"

namespace moe::rank {
namespace {

constexpr int kExitCannotStart = 2;

struct Flags {
  std::string run_dir;
  int rank = 0;
  int threads = 1;
  std::string device = "auto";
  std::string host = "127.0.0.1";
  std::string log_format = "text";
  bool probe = false;
  bool list_gpus = false;
};

absl::StatusOr<JobOutcome> ReadSpecAndRun(RunChannel& channel, const Flags& flags) {
  MOE_ASSIGN_OR_RETURN(const RunSpec run, ParseRunSpec(channel.run_spec()));
  MOE_ASSIGN_OR_RETURN(const Device device, OpenDevice(flags.device, flags.threads));
  spdlog::info("job={} attempt={} kind={} rank={} of {} device=\"{}\"", run.job_id, run.attempt,
               run.kind, channel.rank(), run.world_size, device.Name());
  channel.Report("started", {{"pid", getpid()}, {"device", device.Name()}});
  JobContext context{.channel = channel, .run = run, .device = device, .host = flags.host};
  return RunJob(context);
}

absl::StatusOr<Json> Probe(int threads) {
  MOE_ASSIGN_OR_RETURN(const Device device, OpenDevice("cpu", threads));
  return ToJson(MeasureSpeed(device));
}

// One line on standard output, or the reason why not on the other.
int Print(const absl::StatusOr<Json>& json) {
  if (!json.ok()) {
    std::fprintf(stderr, "moe-rank: %s\n", Message(json.status()).c_str());
    return 1;
  }
  std::printf("%s\n", json->dump().c_str());
  return 0;
}

int Main(int argc, char** argv) {
  CLI::App app("One rank of an attempt: construct, train, evaluate or export.", "moe-rank");
  Flags flags;
  CLI::Option* run_dir =
      app.add_option("--run-dir", flags.run_dir, "The attempt's run folder, with run.json");
  CLI::Option* probe = app.add_flag(
      "--probe", flags.probe, "Measure this machine, print one line of JSON (DeviceSpeed) and end");
  CLI::Option* list_gpus =
      app.add_flag("--list-gpus", flags.list_gpus,
                   "Print the GPUs that --device may name, one line of JSON, and end");
  run_dir->excludes(probe)->excludes(list_gpus);
  app.add_option("--rank", flags.rank, "Number of this rank, from 0")
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--threads", flags.threads, "Threads to compute with")->check(CLI::Range(1, 1024));
  app.add_option("--device", flags.device,
                 "What to compute on: cpu, gpu:N, or auto, the first GPU where one can be used")
      ->capture_default_str();
  app.add_option("--host", flags.host,
                 "Name or address of this host, as the other ranks of the attempt reach it");
  app.add_option("--log-format", flags.log_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitCannotStart;
  }
  if (flags.list_gpus) return Print(ListGpus());
  if (flags.probe) return Print(Probe(flags.threads));
  if (flags.run_dir.empty()) {
    std::fprintf(stderr, "moe-rank: --run-dir is missing; or give --probe\n");
    return kExitCannotStart;
  }
  if (const absl::Status status = InitLogging({.program = "moe-rank", .format = flags.log_format});
      !status.ok()) {
    std::fprintf(stderr, "moe-rank: %s\n", Message(status).c_str());
    return kExitCannotStart;
  }
  const auto channel = RunChannel::Open({.run_dir = flags.run_dir, .rank = flags.rank});
  if (!channel.ok()) {
    spdlog::error("cannot open the run folder: {}", Message(channel.status()));
    return kExitCannotStart;
  }
  return RunToEnd(**channel, [&] { return ReadSpecAndRun(**channel, flags); });
}

}  // namespace
}  // namespace moe::rank

int main(int argc, char** argv) { return moe::rank::Main(argc, argv); }
