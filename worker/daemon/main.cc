// moe-worker: one per node. See daemon.h.
#include <fmt/format.h>
#include <pthread.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <string>

#include "common/lock_checks.h"
#include "common/log.h"
#include "common/status.h"
#include "worker/daemon/daemon.h"
#include "worker/daemon/version.h"
#include "worker/daemon/worker_metrics.h"

namespace {

// Where this program is, and so the ones that it starts.
std::string OwnFolder() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string();
}

void DumpMetrics() {
  const moe::worker::WorkerMetrics metrics;
  for (const moe::MetricList::Entry& entry : metrics.list.entries()) {
    fmt::print("{} {} {}\n", entry.name, entry.type, entry.help);
  }
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "moe-worker: %s\n", moe::Message(status).c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  moe::StopLookingForDeadlocks();
  moe::worker::DaemonOptions options;
  moe::LogOptions log{.program = "moe-worker"};
  options.bin_dir = OwnFolder();

  CLI::App app("Runs the ranks of jobs on this node, as the coordinator says.", "moe-worker");
  app.add_option("--coordinator", options.coordinator, "HOST:PORT of moe-coordinator")
      ->capture_default_str();
  app.add_option("--tls-dir", options.tls_dir,
                 "Folder with ca.pem, cert.pem and key.pem of this worker: connect with TLS");
  app.add_option("--worker-id", options.worker_id, "Unique name, kept over restarts [host name]");
  app.add_option("--state-dir", options.state_dir, "Folder for the runs; one worker at a time");
  app.add_option("--bin-dir", options.bin_dir, "Folder of moe-rank and moe-prepare")
      ->capture_default_str();
  app.add_option("--cpu-slots", options.slots.cpu_slots,
                 "Ranks that may run at a time, on CPUs [a slot per GPU; 1 where there is none]");
  app.add_option("--threads-per-slot", options.slots.threads_per_slot,
                 "Threads of a rank [cores / slots]");
  app.add_option("--rank-host", options.rank_host,
                 "Name or address of this host, as the ranks of other workers reach those here")
      ->capture_default_str();
  bool no_probe = false;
  app.add_flag("--no-speed-probe", no_probe,
               "Do not measure what a slot can do; job plan then knows no times");
  app.add_option("--metrics-listen", options.metrics_listen,
                 "HOST:PORT of the Prometheus endpoint; empty for none")
      ->capture_default_str();
  app.add_option("--log-level", log.level, "trace, debug, info, warn or error")
      ->capture_default_str();
  app.add_option("--log-format", log.format, "text or json")->capture_default_str();
  bool dump_metrics = false;
  app.add_flag("--dump-metrics", dump_metrics, "Print the name, type and help of every metric");
  app.set_version_flag("--version", moe::worker::kVersion);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  options.measure_speed = !no_probe;
  if (dump_metrics) {
    DumpMetrics();
    return 0;
  }
  if (const absl::Status status = moe::InitLogging(log); !status.ok()) return Fail(status);

  // Before any thread exists, so that all of them inherit it and the signals wait for sigwait.
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGINT);
  ::sigaddset(&signals, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  auto daemon = moe::worker::Daemon::Start(options);
  if (!daemon.ok()) return Fail(daemon.status());
  int signal = 0;
  ::sigwait(&signals, &signal);
  spdlog::info("signal {}: exiting", signal);
  return 0;
}
