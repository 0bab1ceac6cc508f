// moe-coordinator: owns jobs, attempts, the schedule and the catalogue.
#include <fmt/format.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "common/lock_checks.h"
#include "common/log.h"
#include "common/status.h"
#include "coordinator/server.h"
#include "coordinator/store_commands.h"
#include "coordinator/version.h"

namespace {

void DumpMetrics() {
  const moe::coordinator::CoordinatorMetrics metrics({});
  for (const moe::MetricList::Entry& entry : metrics.list().entries()) {
    fmt::print("{} {} {}\n", entry.name, entry.type, entry.help);
  }
}

// Blocks the signals that command the program in all threads, so that `sigwait` gets them.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

}  // namespace

int main(int argc, char** argv) {
  moe::StopLookingForDeadlocks();
  moe::coordinator::Server::Options options;
  moe::LogOptions log = {.program = "moe-coordinator"};
  bool dump_metrics = false;
  CLI::App app{"Owns jobs, attempts, the schedule and the catalogue of artefacts."};
  app.set_version_flag("--version", moe::coordinator::kVersion);
  app.add_option("--listen", options.listen, "HOST:PORT for gRPC; port 0 picks a free one")
      ->capture_default_str();
  app.add_option("--metrics-listen", options.metrics_listen, "HOST:PORT for /metrics")
      ->capture_default_str();
  app.add_option("--tls-dir", options.tls_dir,
                 "Folder with ca.pem, cert.pem and key.pem (moectl cert init): serve with TLS, ask "
                 "for tokens, and allow addresses beyond loopback");
  app.add_option("--data-dir", options.data_dir, "Folder of the store");
  app.add_option("--artefact-root", options.artefact_root,
                 "Folder of the artefacts; workers see it under the same path");
  app.add_option("--lease-ttl-ms", options.lease_ttl_ms,
                 "How long a worker may be silent before its attempts end")
      ->capture_default_str();
  app.add_option(
         "--retry-backoff-ms", options.retry_backoff.first_ms,
         "How long a job waits for another attempt after its first failure; doubles with each")
      ->capture_default_str();
  app.add_option("--max-retry-backoff-ms", options.retry_backoff.longest_ms,
                 "How long that wait becomes at most")
      ->capture_default_str();
  app.add_flag("--preemption,!--no-preemption", options.policy.preempt,
               "Whether jobs of higher priority take the slots of jobs of lower priority")
      ->default_val(true);
  app.add_option("--minimum-run-seconds", options.policy.minimum_run_seconds,
                 "How long an attempt runs before it can be pre-empted")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--queues", options.queue_file,
                 "File with the queues and their quotas (docs/queues.md), read again on SIGHUP; "
                 "without it there is one queue, which everybody shares");
  app.add_option("--preempt-grace-ms", options.preempt_grace_ms,
                 "How long a pre-empted job may take for its checkpoint before it is killed")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--allow-root", options.allow_roots,
                 "Folder below which jobs may name paths, beside the artefact root; may be given "
                 "more than once [any path]");
  app.add_option("--user-calls-per-second", options.user_calls_per_second,
                 "Calls that each user may make, with --tls-dir; 0 for no limit")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--user-burst", options.user_burst, "Calls that a user may make at once")
      ->check(CLI::Range(1.0, 1e9))
      ->capture_default_str();
  app.add_option("--log-level", log.level, "trace, debug, info, warn or error")
      ->capture_default_str();
  app.add_option("--log-format", log.format, "text or json")->capture_default_str();
  app.add_flag("--dump-metrics", dump_metrics, "Print the name, type and help of every metric");
  app.require_subcommand(0, 1);
  int command_exit_code = 0;
  moe::coordinator::AddStoreCommands(app, &command_exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (!app.get_subcommands().empty()) return command_exit_code;
  if (dump_metrics) {
    DumpMetrics();
    return 0;
  }
  if (const absl::Status status = moe::InitLogging(log); !status.ok()) {
    fmt::print(stderr, "moe-coordinator: {}\n", moe::Message(status));
    return 2;
  }

  const sigset_t signals = BlockSignals();
  auto server = moe::coordinator::Server::Start(options);
  if (!server.ok()) {
    fmt::print(stderr, "moe-coordinator: {}\n", moe::Message(server.status()));
    return 1;
  }
  spdlog::info("version={} listening={} metrics={} data_dir={} artefact_root={}",
               moe::coordinator::kVersion, (*server)->address(), (*server)->metrics_url(),
               options.data_dir, options.artefact_root);
  int signal = 0;
  while (sigwait(&signals, &signal) == 0 && signal == SIGHUP) (*server)->ReloadQueues();
  spdlog::info("signal={} shutting down", signal);
  (*server)->Shutdown();
  return 0;
}
