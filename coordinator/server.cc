#include "coordinator/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "common/file.h"
#include "common/json.h"
#include "common/metrics/metrics_server.h"
#include "common/net/endpoint.h"
#include "common/net/tls.h"
#include "common/net/token.h"
#include "common/status.h"
#include "coordinator/access.h"
#include "coordinator/audit_journal.h"
#include "coordinator/commit_loop.h"
#include "coordinator/control_socket.h"
#include "coordinator/orphans.h"
#include "coordinator/path_roots.h"
#include "coordinator/queues/queue_file.h"
#include "coordinator/services/access_service.h"
#include "coordinator/services/artefact_service.h"
#include "coordinator/services/audit_service.h"
#include "coordinator/services/caller.h"
#include "coordinator/services/cluster_service.h"
#include "coordinator/services/job_service.h"
#include "coordinator/services/look_up.h"
#include "coordinator/services/sampler_service.h"
#include "coordinator/services/unary.h"
#include "coordinator/services/worker_service.h"
#include "coordinator/transport_watch.h"
#include "coordinator/unreadable_requests.h"

namespace moe::coordinator {
namespace {

// Requests are refused from half of it on (services/unary.h); this is what gRPC itself takes.
constexpr int kMaxMessageBytes = 2 * static_cast<int>(kMaxRequestBytes);
// How long streams have to end by themselves at shutdown.
constexpr int kShutdownMillis = 500;
// How often queues, goodput and what time does to workers are exported.
constexpr int64_t kSharingMillis = 1000;
// Submissions whose files are looked at at a time: one that names a slow disk delays no other.
constexpr int kSpecThreads = 4;
// What one connection may hold, and how slowly it may begin and breathe.
constexpr int kMaxStreamsPerConnection = 2048;
constexpr int kMaxMetadataBytes = 16 << 10;
constexpr int kHandshakeMillis = 10'000;
constexpr int kKeepaliveMillis = 60'000;
constexpr int kKeepaliveTimeoutMillis = 20'000;
constexpr int64_t kLongestBackoffMillis = 24 * 3600 * 1000;

absl::Status CheckBackoff(const Backoff& backoff) {
  if (backoff.first_ms < 1 || backoff.first_ms > backoff.longest_ms) {
    return InvalidArgument(
        "--retry-backoff-ms {} is out of range; use 1 to --max-retry-backoff-ms {}",
        backoff.first_ms, backoff.longest_ms);
  }
  if (backoff.longest_ms > kLongestBackoffMillis) {
    return InvalidArgument("--max-retry-backoff-ms {} is out of range; use at most {}, a day",
                           backoff.longest_ms, kLongestBackoffMillis);
  }
  return absl::OkStatus();
}

// That `path` is a folder that can be written. `flag` is what to change.
absl::Status PrepareFolder(const std::string& path, const std::string& flag) {
  if (path.empty()) return InvalidArgument("{} is missing; give a folder", flag);
  const std::string fix =
      fmt::format("{} {}: use a folder that this user can write, or create it with: mkdir -p {}",
                  flag, path, path);
  const absl::Status made = MakeDirectories(path);
  if (!made.ok()) return Annotate(made, fix);
  const std::string probe = JoinPath(path, ".moe-write-probe");
  const absl::Status written = WriteFileAtomically(probe, "");
  if (!written.ok()) return Annotate(written, fix);
  return RemoveTree(probe);
}

// An artefact root belongs to one store: another one would give the same names to other folders,
// and take its artefacts for orphans.
absl::Status ClaimArtefactRoot(const std::string& root, const std::string& store_id) {
  const std::string marker = JoinPath(root, ".moe-store");
  if (!FileExists(marker)) return WriteFileAtomically(marker, store_id + "\n");
  MOE_ASSIGN_OR_RETURN(const std::string owner, ReadFile(marker));
  if (owner == store_id + "\n") return absl::OkStatus();
  return FailedPrecondition(
      "--artefact-root {} belongs to another store (its .moe-store is {}, the store in --data-dir "
      "is {}); use the data directory that it was made with, or an empty folder",
      root, owner.substr(0, owner.find('\n')), store_id);
}

// Beyond loopback only with TLS and tokens, which --tls-dir turns on together.
absl::StatusOr<Endpoint> ParseListen(const std::string& text, const std::string& tls_dir) {
  const auto endpoint = ParseEndpoint(text);
  if (!endpoint.ok()) return Annotate(endpoint.status(), "--listen");
  if (!tls_dir.empty()) {
    MOE_RETURN_IF_ERROR(CheckTlsFolder(tls_dir, "--tls-dir"));
  } else if (!IsLoopback(*endpoint)) {
    return InvalidArgument(
        "--listen {}: without TLS the coordinator listens on loopback only; use 127.0.0.1:{}, or "
        "make certificates (moectl cert init) and give --tls-dir",
        text, endpoint->port);
  }
  return *endpoint;
}

// Prometheus scrapes without TLS: what /metrics shows is for the machine itself, or for a proxy on
// it.
absl::StatusOr<Endpoint> ParseMetricsListen(const std::string& text) {
  const auto endpoint = ParseEndpoint(text);
  if (!endpoint.ok()) return Annotate(endpoint.status(), "--metrics-listen");
  if (IsLoopback(*endpoint)) return *endpoint;
  return InvalidArgument(
      "--metrics-listen {}: metrics are served without TLS and so on loopback only; use "
      "127.0.0.1:{}, and a proxy or an agent of Prometheus on this machine",
      text, endpoint->port);
}

}  // namespace

class Server::Impl {
 public:
  explicit Impl(Options options)
      : options_(std::move(options)),
        metrics_(CoordinatorMetrics::Options{}),
        workers_({.lease_ttl_ms = options_.lease_ttl_ms,
                  .lease_margin_ms = options_.lease_margin_ms,
                  .heartbeat_interval_ms = std::max<int64_t>(20, options_.lease_ttl_ms / 6)}) {}

  ~Impl() { Shutdown(); }

  absl::Status Start() {
    MOE_ASSIGN_OR_RETURN(Endpoint listen, ParseListen(options_.listen, options_.tls_dir));
    if (!options_.queue_file.empty()) {
      auto queues = LoadQueueFile(options_.queue_file);
      if (!queues.ok()) return Annotate(queues.status(), "--queues");
      queue_tree_ = *std::move(queues);
    }
    if (options_.lease_ttl_ms < 100) {
      return InvalidArgument("--lease-ttl-ms {} is out of range; use 100 or more",
                             options_.lease_ttl_ms);
    }
    MOE_RETURN_IF_ERROR(CheckBackoff(options_.retry_backoff));
    MOE_RETURN_IF_ERROR(PrepareFolder(options_.data_dir, "--data-dir"));
    MOE_RETURN_IF_ERROR(PrepareFolder(options_.artefact_root, "--artefact-root"));
    MOE_RETURN_IF_ERROR(CheckPortFree(listen, "--listen"));
    if (!options_.allow_roots.empty()) {
      std::vector<std::string> roots = options_.allow_roots;
      roots.push_back(options_.artefact_root);
      MOE_ASSIGN_OR_RETURN(path_roots_, PathRoots::Of(roots));
    }
    const Clock* clock = options_.clock != nullptr ? options_.clock : &real_clock_;

    MOE_ASSIGN_OR_RETURN(store_,
                         storage::Store::Open({.path = JoinPath(options_.data_dir, "store")}));
    MOE_RETURN_IF_ERROR(ClaimArtefactRoot(options_.artefact_root, store_->store_id()));
    if (!options_.metrics_listen.empty()) {
      MOE_ASSIGN_OR_RETURN(const Endpoint metrics, ParseMetricsListen(options_.metrics_listen));
      MOE_ASSIGN_OR_RETURN(metrics_server_, MetricsServer::Start(metrics, metrics_.registry()));
      metrics_url_ = metrics_server_->url();
    }

    loop_ = std::make_unique<CommitLoop>(store_.get(), clock);
    audit_ = std::make_unique<AuditJournal>([loop = loop_.get()] { loop->Change([](Turn&) {}); });
    MOE_RETURN_IF_ERROR(audit_->Load(*store_));
    files_ = MakeArtefactFiles();
    file_work_ = MakeFileWork(1);
    spec_work_ = MakeFileWork(kSpecThreads);
    jobs_ = std::make_unique<JobTable>(store_.get());
    catalog_ = std::make_unique<Catalog>(store_.get());
    sampler_ = std::make_unique<DomainSampler>(store_.get(), jobs_.get());
    supervisor_ = std::make_unique<Supervisor>(
        Supervisor::Options{.artefact_root = options_.artefact_root,
                            .stop_grace_ms = options_.stop_grace_ms,
                            .retry_backoff = options_.retry_backoff,
                            .preempt_grace_ms = options_.preempt_grace_ms,
                            .policy = options_.policy},
        Supervisor::Parts{.store = store_.get(),
                          .jobs = jobs_.get(),
                          .catalog = catalog_.get(),
                          .sampler = sampler_.get(),
                          .workers = &workers_,
                          .files = files_.get(),
                          .file_work = file_work_.get(),
                          .queue = loop_.get(),
                          .observer = &metrics_,
                          .queue_tree = &queue_tree_,
                          .look_up = [this](const std::vector<v1::JobSpec>& jobs) {
                            return std::make_shared<FilesFacts>(LookUp(core_, jobs));
                          }});
    jobs_->set_state_observer(
        [this](Turn& turn, const v1::Job& job, v1::JobState from, v1::JobState to) {
          metrics_.OnJobState(turn.monotonic_millis, job, from, to);
          if (IsEnded(to) && from != v1::JOB_STATE_UNSPECIFIED) {
            supervisor_->log_followers().Tell(turn, *ParseJobId(job.job_id()));
          }
        });
    MOE_RETURN_IF_ERROR(workers_.Load(*store_));
    MOE_RETURN_IF_ERROR(jobs_->Load());
    MOE_RETURN_IF_ERROR(catalog_->Load());
    MOE_RETURN_IF_ERROR(sampler_->Load());
    MOE_RETURN_IF_ERROR(TakeNoteOfRestore(clock->UnixMillis()));
    MOE_RETURN_IF_ERROR(supervisor_->Load(clock->UnixMillis(), clock->MonotonicMillis()));

    if (!options_.tls_dir.empty()) MOE_RETURN_IF_ERROR(OpenAccess(clock->UnixMillis()));

    core_ = {.queue = loop_.get(),
             .file_work = spec_work_.get(),
             .metrics = &metrics_,
             .store = store_.get(),
             .jobs = jobs_.get(),
             .catalog = catalog_.get(),
             .sampler = sampler_.get(),
             .workers = &workers_,
             .supervisor = supervisor_.get(),
             .queue_tree = &queue_tree_,
             .access = access_.get(),
             .audit = audit_.get(),
             .path_roots = &path_roots_,
             .models = &models_,
             .clock = clock,
             .artefact_root = options_.artefact_root,
             .metrics_url = metrics_url_,
             .start_unix_millis = clock->UnixMillis()};
    StartLoop();
    MOE_ASSIGN_OR_RETURN(
        control_, ControlSocket::Listen(ControlSocketPath(options_.data_dir),
                                        [this](const Json& request) { return Obey(request); }));
    return StartGrpc(listen);
  }

  void Shutdown() {
    control_.reset();
    if (grpc_ != nullptr) {
      grpc_->GetHealthCheckService()->SetServingStatus(false);
      grpc_->Shutdown(std::chrono::system_clock::now() +
                      std::chrono::milliseconds(kShutdownMillis));
      grpc_->Wait();
      grpc_.reset();
    }
    transport_watch_.reset();
    if (loop_ != nullptr) loop_->Stop();
    // What these still post to the loop is dropped.
    spec_work_.reset();
    file_work_.reset();
    metrics_server_.reset();
    store_.reset();
  }

  void ReloadQueues() {
    if (options_.queue_file.empty()) {
      spdlog::warn("there is no queue file to read again; start with --queues");
      return;
    }
    auto queues = LoadQueueFile(options_.queue_file);
    if (!queues.ok()) return TellReload(queues.status());
    loop_->Change([this, queues = *std::move(queues)](Turn& turn) {
      const absl::Status taken = queue_tree_.TakeNumbersOf(queues);
      audit_->Record(turn, {.user = "moe-coordinator"}, "ReloadQueues", options_.queue_file, taken);
      if (taken.ok()) supervisor_->Wake();
      turn.After([this, taken] { TellReload(taken); });
    });
  }

  const std::string& address() const { return address_; }
  const std::string& metrics_url() const { return metrics_url_; }
  const Core& core() const { return core_; }

 private:
  void TellReload(const absl::Status& status) const {
    if (status.ok()) {
      spdlog::info("queues={} read again", options_.queue_file);
    } else {
      spdlog::error("queues={} not taken, what was goes on: {}", options_.queue_file,
                    Message(status));
    }
  }

  // What a command of moe-coordinator asks for. On the control socket's thread.
  absl::StatusOr<Json> Obey(const Json& request) {
    JsonReader reader(request, "the request");
    const std::string command = reader.String("command");
    const std::string to = reader.String("to");
    const int64_t keep = reader.Int("keep");
    MOE_RETURN_IF_ERROR(reader.status());
    if (command != "backup") return InvalidArgument("command '{}' is not known", command);
    if (keep < 1 || keep > 1000) return InvalidArgument("keep={}; use 1 to 1000", keep);
    spdlog::info("backup to={} keep={}", to, keep);
    const auto backup = store_->BackUp(to, static_cast<int>(keep));
    loop_->Change([this, to, status = backup.status()](Turn& turn) {
      audit_->Record(turn, {.user = "moe-coordinator backup"}, "Backup", to, status);
    });
    MOE_RETURN_IF_ERROR(backup.status());
    return Json{{"id", backup->id},
                {"unix_seconds", backup->unix_seconds},
                {"size_bytes", backup->size_bytes}};
  }

  // After a restore the artefact root may hold what the store does not know: nothing of it is lost.
  absl::Status TakeNoteOfRestore(int64_t unix_millis) {
    MOE_ASSIGN_OR_RETURN(const bool restored, store_->is_restored());
    if (!restored) return absl::OkStatus();
    const std::string aside =
        JoinPath(options_.artefact_root, fmt::format("set-aside-{}", unix_millis / 1000));
    MOE_ASSIGN_OR_RETURN(const int moved,
                         SetAsideUnknown(options_.artefact_root, *catalog_, *files_, aside));
    if (moved > 0) {
      spdlog::warn("moved={} folders that the restored store does not know are in {}", moved,
                   aside);
    }
    storage::Batch batch;
    batch.TakeNoteOfRestore();
    return store_->Commit(batch);
  }

  // Loads the tokens; the first start makes the first one, in a file that only this user can read.
  absl::Status OpenAccess(int64_t unix_millis) {
    access_ = std::make_shared<Access>(
        RateLimiter::Options{.calls_per_second = options_.user_calls_per_second,
                             .burst = options_.user_burst},
        [this](const Caller& caller, const std::string& method, const absl::Status& status) {
          metrics_.OnRpc(method, absl::StatusCodeToString(status.code()));
          audit_->Refuse(caller, method, "", status);
        },
        [this](const std::string& method) { metrics_.OnAdmitted(method); });
    MOE_RETURN_IF_ERROR(access_->Load(*store_));
    if (access_->HasAdmin(unix_millis)) return absl::OkStatus();
    MOE_ASSIGN_OR_RETURN(const std::string secret, DrawToken());
    v1::CreateTokenRequest request;
    request.set_token_sha256(TokenSha256(secret));
    request.set_user("admin");
    request.set_role(v1::ROLE_ADMIN);
    Turn turn{.unix_millis = unix_millis};
    MOE_ASSIGN_OR_RETURN(const v1::Token token, access_->Create(turn, request));
    audit_->Record(turn, {.user = "moe-coordinator"}, "CreateToken",
                   fmt::format("{} of {}", token.token_id(), token.user()), absl::OkStatus());
    const std::string path = JoinPath(options_.data_dir, "admin.token");
    MOE_RETURN_IF_ERROR(WriteSecretFile(path, secret + "\n"));
    MOE_RETURN_IF_ERROR(store_->Commit(turn.batch));
    for (const auto& tell : turn.after_commit) tell();
    spdlog::info("token={} of the first admin is in {}", token.token_id(), path);
    return absl::OkStatus();
  }

  std::shared_ptr<grpc::ServerCredentials> Credentials() const {
    if (access_ == nullptr) return grpc::InsecureServerCredentials();
    auto credentials = TlsServerCredentials(options_.tls_dir);
    credentials->SetAuthMetadataProcessor(access_);
    return credentials;
  }

  // On gRPC's threads.
  void OnFailedHandshake(const FailedHandshake& failed) {
    metrics_.OnHandshakeFailure(failed.reason);
    // Who went away, as whatever only looks for an open port does, was refused nothing.
    if (absl::IsCancelled(failed.why)) return;
    audit_->Refuse({}, "Handshake", "", failed.why);
  }

  // On gRPC's threads.
  void OnUnreadable(const grpc::ServerContextBase& context, const std::string& method) {
    const absl::Status status =
        InvalidArgument("the request is not what {} takes, or broke off", method);
    metrics_.OnRpc(method, CodeName(status));
    audit_->Refuse(CallerOf(core_, context), method, "", status);
  }

  void StartLoop() {
    loop_->Start({
        .before_commit =
            [this](Turn& turn) {
              supervisor_->BeforeCommit(turn);
              audit_->BeforeCommit(turn);
              ExportWorkers(turn.monotonic_millis);
              ExportSharing(turn.monotonic_millis);
              metrics_deadline_millis_ = metrics_.RemoveOld(turn.monotonic_millis);
            },
        .next_deadline_millis =
            [this] {
              return std::min({supervisor_->NextDeadlineMillis(), audit_->NextDeadlineMillis(),
                               metrics_deadline_millis_});
            },
        .on_commit = [this](double seconds) { metrics_.OnCommit(seconds); },
        .on_fatal =
            [this](const absl::Status& status) {
              if (options_.on_fatal) return options_.on_fatal(status);
              spdlog::critical("the store failed, ending: {}", Message(status));
              ::_exit(1);
            },
    });
  }

  // Costs a look at all workers: only where something changed, and for what time does to them.
  void ExportWorkers(int64_t monotonic_millis) {
    if (workers_.changes() == exported_changes_ && monotonic_millis < workers_deadline_millis_) {
      return;
    }
    exported_changes_ = workers_.changes();
    workers_deadline_millis_ = monotonic_millis + kSharingMillis;
    const WorkerRegistry::Census census = workers_.Count(monotonic_millis);
    metrics_.SetWorkers({{"ready", census.ready},
                         {"drained", census.drained},
                         {"suspect", census.suspect},
                         {"lost", census.lost}});
    supervisor_->CountSlots(census.slots, monotonic_millis);
  }

  // Costs a look at the whole queue: not with every commit.
  void ExportSharing(int64_t monotonic_millis) {
    if (monotonic_millis < sharing_deadline_millis_) return;
    sharing_deadline_millis_ = monotonic_millis + kSharingMillis;
    metrics_.sharing().SetQueues(supervisor_->outlook().Queues(monotonic_millis));
    metrics_.sharing().SetGoodput(supervisor_->ledger().OfAll(monotonic_millis).slot_seconds());
  }

  absl::Status StartGrpc(Endpoint listen) {
    job_service_ = std::make_unique<JobServiceImpl>(core_);
    artefact_service_ = std::make_unique<ArtefactServiceImpl>(core_);
    cluster_service_ = std::make_unique<ClusterServiceImpl>(core_);
    sampler_service_ = std::make_unique<SamplerServiceImpl>(core_);
    worker_service_ = std::make_unique<WorkerServiceImpl>(core_);
    access_service_ = std::make_unique<AccessServiceImpl>(core_);
    audit_service_ = std::make_unique<AuditServiceImpl>(core_);
    transport_watch_ = std::make_unique<TransportWatch>(
        [this](const FailedHandshake& failed) { OnFailedHandshake(failed); });
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(listen.ToString(), Credentials(), &port);
    builder.RegisterService(job_service_.get());
    builder.RegisterService(artefact_service_.get());
    builder.RegisterService(cluster_service_.get());
    builder.RegisterService(sampler_service_.get());
    builder.RegisterService(worker_service_.get());
    builder.RegisterService(access_service_.get());
    builder.RegisterService(audit_service_.get());
    std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>>
        interceptors;
    interceptors.push_back(std::make_unique<UnreadableRequests>(
        [this](const auto& context, const auto& method) { OnUnreadable(context, method); }));
    builder.experimental().SetInterceptorCreators(std::move(interceptors));
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    builder.SetMaxSendMessageSize(static_cast<int>(kMaxRequestBytes));
    // Two coordinators must not share a port, each getting half of the connections.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    // Idle watchers and workers may ask now and then whether the connection still lives.
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    // A peer that holds a connection without using it as the protocol means is dropped.
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
    builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMillis);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMillis);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMillis);
    grpc_ = builder.BuildAndStart();
    if (grpc_ == nullptr || port == 0) {
      grpc_ = nullptr;
      return FailedPrecondition("--listen {}: cannot listen there; choose another port",
                                listen.ToString());
    }
    listen.port = static_cast<uint16_t>(port);
    address_ = listen.ToString();
    return WriteFileAtomically(JoinPath(options_.data_dir, "address"), address_ + "\n");
  }

  const Options options_;
  RealClock real_clock_;
  CoordinatorMetrics metrics_;
  WorkerRegistry workers_;
  QueueTree queue_tree_;  // filled at the start, then loop thread only
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<CommitLoop> loop_;
  std::unique_ptr<ArtefactFiles> files_;
  std::unique_ptr<FileWork> file_work_;  // of artefacts, in order
  std::unique_ptr<FileWork> spec_work_;  // of submissions, in any order
  std::unique_ptr<JobTable> jobs_;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<DomainSampler> sampler_;
  std::unique_ptr<Supervisor> supervisor_;
  std::unique_ptr<AuditJournal> audit_;
  std::shared_ptr<Access> access_;
  PathRoots path_roots_;
  ModelFactsCache models_;
  Core core_;
  int64_t metrics_deadline_millis_ = 0;  // loop thread only
  int64_t sharing_deadline_millis_ = 0;  // likewise
  int64_t workers_deadline_millis_ = 0;  // likewise
  uint64_t exported_changes_ = 0;        // likewise

  std::unique_ptr<ControlSocket> control_;
  std::unique_ptr<MetricsServer> metrics_server_;
  std::unique_ptr<JobServiceImpl> job_service_;
  std::unique_ptr<ArtefactServiceImpl> artefact_service_;
  std::unique_ptr<ClusterServiceImpl> cluster_service_;
  std::unique_ptr<SamplerServiceImpl> sampler_service_;
  std::unique_ptr<WorkerServiceImpl> worker_service_;
  std::unique_ptr<AccessServiceImpl> access_service_;
  std::unique_ptr<AuditServiceImpl> audit_service_;
  std::unique_ptr<TransportWatch> transport_watch_;
  std::unique_ptr<grpc::Server> grpc_;
  std::string address_;
  std::string metrics_url_;
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Options options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  MOE_RETURN_IF_ERROR(impl->Start());
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

const std::string& Server::address() const { return impl_->address(); }
const std::string& Server::metrics_url() const { return impl_->metrics_url(); }
const Core& Server::core() const { return impl_->core(); }
void Server::ReloadQueues() { impl_->ReloadQueues(); }
void Server::Shutdown() { impl_->Shutdown(); }

}  // namespace moe::coordinator
