// A coordinator for tests of the worker daemon: speaks worker_service.proto for real, decides
// nothing, and can be made to fall silent or to forget what it had not acknowledged.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/json.h"
#include "moe/v1/worker_service.grpc.pb.h"

namespace moe {

// What has been received of one rank.
struct ReceivedRank {
  std::vector<v1::RankReport> reports;  // each once, in order
  int64_t acknowledged_seq = 0;
  std::string log;
  std::optional<v1::RankExited> exited;
};

// Thread-safe. One worker at a time.
class FakeCoordinator final : public v1::WorkerService::Service {
 public:
  struct Options {
    int lease_ttl_ms = 60'000;
    int heartbeat_interval_ms = 50;
  };

  explicit FakeCoordinator(const Options& options);
  ~FakeCoordinator() override;

  // "127.0.0.1:PORT"; stays the same over Restart().
  const std::string& address() const { return address_; }

  // Reports are taken and not acknowledged.
  void SetAcknowledging(bool acknowledging);
  // Heartbeats are answered, each with the answer to the last one before this.
  void ReplayHeartbeatAcks();
  // Sessions are accepted, heard, and not answered; ends the one that is open.
  void SetSilent(bool silent);
  // As after a crash: what was not acknowledged is gone.
  void Restart();

  // Starts rank 0 of an attempt of job "j1" with a script (scripted_rank.cc).
  void Start(int attempt, const Json& script, int slot = 0);
  void Stop(int attempt, const std::string& reason, int grace_ms);
  void Forget(int attempt);
  void Command(int attempt, const Json& command);

  // Block until it is so; a test failure and false where it does not come.
  bool WaitForSession(int count);
  bool WaitFor(int attempt, const std::string& what,
               const std::function<bool(const ReceivedRank&)>& reached);
  bool WaitForReport(int attempt, v1::RankReport::EventCase event);

  ReceivedRank Received(int attempt);
  // The names that the newest registration brought: "j1.1".
  std::vector<std::string> RegisteredAttempts();

 private:
  using Stream = grpc::ServerReaderWriter<v1::SessionResponse, v1::SessionRequest>;

  grpc::Status Session(grpc::ServerContext* context, Stream* stream) override;
  void Listen(const std::string& address);
  void Send(const v1::SessionResponse& message);
  v1::SessionResponse Handle(const v1::SessionRequest& message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  v1::SessionResponse HandleRegister(const v1::Register& registration)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;

  absl::Mutex mutex_;
  Stream* stream_ ABSL_GUARDED_BY(mutex_) = nullptr;
  grpc::ServerContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool acknowledging_ ABSL_GUARDED_BY(mutex_) = true;
  bool silent_ ABSL_GUARDED_BY(mutex_) = false;
  bool replaying_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t acknowledged_heartbeat_ ABSL_GUARDED_BY(mutex_) = 0;
  int sessions_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::string> registered_ ABSL_GUARDED_BY(mutex_);
  std::map<int, ReceivedRank> ranks_ ABSL_GUARDED_BY(mutex_);  // by attempt
};

}  // namespace moe
