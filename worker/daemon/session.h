// The worker's connection to the coordinator: registers, keeps the leases alive, carries messages
// between the coordinator and the supervisor, and connects again when it is lost.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "moe/v1/worker_service.grpc.pb.h"
#include "worker/daemon/supervisor.h"

namespace moe::worker {

// Thread-safe. Has a thread that connects and reads, and per session one that writes and one that
// sends heartbeats, so that neither a slow write nor a slow reader delays a heartbeat's turn.
class SessionClient {
 public:
  struct Options {
    std::string coordinator;  // "127.0.0.1:7070"
    std::string worker_id;
    std::string host;
    std::string version;
    std::vector<v1::Slot> slots;
    std::shared_ptr<grpc::ChannelCredentials> credentials;
    const Clock* clock = nullptr;
    WorkerMetrics* metrics = nullptr;
    // Pause before connecting again: from the first to the second, growing, with jitter.
    int64_t min_backoff_ms = 200;
    int64_t max_backoff_ms = 5000;
    // How long the answer to the registration may take.
    int64_t register_timeout_ms = 10'000;
  };

  // Connects, and goes on doing so until destroyed.
  SessionClient(const Options& options, Supervisor* supervisor);
  ~SessionClient();

 private:
  class Session;

  void Run();
  // Returns when the session has ended; OK where that was our wish.
  absl::Status RunSession(bool* accepted);
  bool WaitBeforeRetry(int64_t pause_ms);

  const Options options_;
  Supervisor* const supervisor_;

  absl::Mutex mutex_;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<Session> session_ ABSL_GUARDED_BY(mutex_);  // null between sessions

  std::thread thread_;
};

}  // namespace moe::worker
