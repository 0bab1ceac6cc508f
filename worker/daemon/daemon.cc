#include "worker/daemon/daemon.h"

#include <grpcpp/security/credentials.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "common/clock.h"
#include "common/metrics/metrics_server.h"
#include "common/net/endpoint.h"
#include "common/net/tls.h"
#include "common/status.h"
#include "worker/daemon/session.h"
#include "worker/daemon/speed_probe.h"
#include "worker/daemon/state_dir.h"
#include "worker/daemon/supervisor.h"
#include "worker/daemon/version.h"
#include "worker/daemon/worker_metrics.h"

namespace moe::worker {
namespace {

absl::StatusOr<std::string> HostName() {
  char name[256];
  if (::gethostname(name, sizeof name) != 0) return ErrnoStatus(errno, "cannot get the host name");
  name[sizeof name - 1] = '\0';
  return std::string(name);
}

// Without TLS a connection does not leave the machine.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials(
    const DaemonOptions& options) {
  MOE_ASSIGN_OR_RETURN(const Endpoint endpoint, ParseEndpoint(options.coordinator));
  if (!options.tls_dir.empty()) {
    MOE_RETURN_IF_ERROR(CheckTlsFolder(options.tls_dir, "--tls-dir"));
    return TlsChannelCredentials(options.tls_dir);
  }
  if (IsLoopback(endpoint)) return grpc::InsecureChannelCredentials();
  return InvalidArgument(
      "--coordinator={} is not on this machine, and a connection without TLS does not leave it; "
      "give --tls-dir with certificates for this worker (moectl cert init --worker NAME)",
      options.coordinator);
}

absl::Status CheckProgram(const std::string& path) {
  if (::access(path.c_str(), X_OK) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, "cannot run " + path + "; --bin-dir must name the folder it is in");
}

// What slots are made of where the options do not say that it is CPUs.
std::vector<Gpu> UsableGpus(const DaemonOptions& options, const std::string& folder) {
  if (options.slots.cpu_slots.has_value()) return {};
  absl::StatusOr<std::vector<Gpu>> gpus =
      ListGpus(options.bin_dir + "/moe-rank", folder + "/gpus.json");
  if (gpus.ok()) return *std::move(gpus);
  spdlog::warn("there are GPUs and ranks cannot use them: {}; slots are of CPUs",
               Message(gpus.status()));
  return {};
}

}  // namespace

// In the order of construction; destroyed from the last to the first.
struct Daemon::Parts {
  explicit Parts(StateDir state_dir) : state_dir(std::move(state_dir)) {}

  StateDir state_dir;
  RealClock clock;
  WorkerMetrics metrics;
  std::unique_ptr<MetricsServer> metrics_server;
  std::unique_ptr<Supervisor> supervisor;
  std::unique_ptr<SessionClient> session;
  std::unique_ptr<SpeedProbe> speed_probe;
};

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const DaemonOptions& options) {
  // Ranks and coordinators close connections when they like.
  std::signal(SIGPIPE, SIG_IGN);
  if (options.state_dir.empty()) return InvalidArgument("--state-dir is missing");
  MOE_ASSIGN_OR_RETURN(const auto credentials, Credentials(options));
  MOE_RETURN_IF_ERROR(CheckProgram(options.bin_dir + "/moe-prepare"));
  MOE_RETURN_IF_ERROR(CheckProgram(options.bin_dir + "/moe-rank"));
  MOE_ASSIGN_OR_RETURN(const std::string host, HostName());
  MOE_ASSIGN_OR_RETURN(StateDir state_dir, StateDir::Lock(options.state_dir));
  MOE_ASSIGN_OR_RETURN(const std::vector<v1::Slot> slots,
                       DetectSlots(options.slots, UsableGpus(options, state_dir.path())));

  auto parts = std::make_unique<Parts>(std::move(state_dir));
  if (!options.metrics_listen.empty()) {
    MOE_ASSIGN_OR_RETURN(const Endpoint endpoint, ParseEndpoint(options.metrics_listen));
    MOE_ASSIGN_OR_RETURN(parts->metrics_server,
                         MetricsServer::Start(endpoint, parts->metrics.list.registry()));
  }
  MOE_ASSIGN_OR_RETURN(parts->supervisor, Supervisor::Open({
                                              .runs_path = parts->state_dir.runs_path(),
                                              .bin_dir = options.bin_dir,
                                              .rank_host = options.rank_host,
                                              .slots = slots,
                                              .clock = &parts->clock,
                                              .metrics = &parts->metrics,
                                          }));
  parts->session = std::make_unique<SessionClient>(
      SessionClient::Options{
          .coordinator = options.coordinator,
          .worker_id = options.worker_id.empty() ? host : options.worker_id,
          .host = host,
          .version = kVersion,
          .slots = slots,
          .credentials = credentials,
          .clock = &parts->clock,
          .metrics = &parts->metrics,
      },
      parts->supervisor.get());
  // What a GPU can do is not measured.
  if (options.measure_speed && DeviceArgument(slots.front()) == "cpu") {
    parts->speed_probe = std::make_unique<SpeedProbe>(
        SpeedProbe::Options{.program = options.bin_dir + "/moe-rank",
                            .threads = slots.front().threads(),
                            .folder = parts->state_dir.path()},
        [supervisor = parts->supervisor.get()](const v1::DeviceSpeed& speed) {
          supervisor->SetSpeed(speed);
        });
  }
  spdlog::info(
      "version={} state_dir={} slots={} device=\"{}\" threads_per_slot={} coordinator={} "
      "metrics={}",
      kVersion, parts->state_dir.path(), slots.size(), slots.front().device(),
      slots.front().threads(), options.coordinator,
      parts->metrics_server == nullptr ? "none" : parts->metrics_server->url());
  return std::unique_ptr<Daemon>(new Daemon(std::move(parts)));
}

Daemon::Daemon(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Daemon::~Daemon() = default;

}  // namespace moe::worker
