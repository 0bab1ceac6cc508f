// Runs the attempts of this worker: starts ranks, finds those that an earlier daemon started, tells
// them what the coordinator says, has what they write relayed, and ends them when the lease is
// gone.
//
// Knows nothing of gRPC: a session (session.h) hands it the coordinator's messages and gives it a
// place to send to. The truth is in the run folders; what is here can be rebuilt from them, which
// is what happens when the daemon starts.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/run_channel.h"
#include "moe/v1/worker_service.pb.h"
#include "worker/daemon/attempt_relay.h"
#include "worker/daemon/attempt_set.h"
#include "worker/daemon/rank_starter.h"
#include "worker/daemon/session_sink.h"
#include "worker/daemon/socket_watch.h"
#include "worker/daemon/worker_metrics.h"

namespace moe::worker {

// Thread-safe: the public methods hand their work to the supervisor's one thread, which alone
// touches attempts and ranks.
class Supervisor {
 public:
  struct Options {
    std::string runs_path;
    std::string bin_dir;                  // of moe-rank and moe-prepare
    std::string rank_host = "127.0.0.1";  // how the ranks of other workers reach those here
    std::vector<v1::Slot> slots;
    const Clock* clock = nullptr;
    WorkerMetrics* metrics = nullptr;
    // How long after the lease a rank that did not end by itself is killed. Longer than what a rank
    // gives itself.
    int64_t fence_grace_ms = kLeaseGraceMs + 1000;
    // How often logs are looked at and lost connections to ranks are tried. All else is done when
    // it happens.
    int64_t tick_ms = 200;
  };

  // Takes over the runs that are in the folder.
  static absl::StatusOr<std::unique_ptr<Supervisor>> Open(const Options& options);
  // Leaves the ranks running.
  ~Supervisor();

  // Attempts with a run folder here. Blocks until everything handed in before is done.
  std::vector<AttemptKey> Attempts();

  // The coordinator accepted this worker: attempts with cursors are relayed from there.
  // `heard_ms`: monotonic time before which the registration was sent.
  void SessionStarted(const v1::Registered& registered, std::shared_ptr<SessionSink> sink,
                      int64_t heard_ms);
  // A message of the session other than registered and heartbeat_ack.
  void Deliver(v1::SessionResponse message);
  // All ranks may run until then, on the monotonic clock.
  void RenewLease(int64_t until_ms);
  void SessionEnded();
  // What each slot was measured to do: told in this and every later session.
  void SetSpeed(v1::DeviceSpeed speed);

 private:
  Supervisor(const Options& options, FileDescriptor wake, SocketWatch sockets);

  void Post(std::function<void()> work);
  void Run();

  // Everything below is for the supervisor's thread (and for Open, before it runs).
  void WaitForEvents();
  // Has a rank connected to as soon as it listens.
  void AwaitSocket(Attempt& attempt, Rank& rank);
  void HandleEnds();
  // Kills ranks whose lease, or whose grace for stopping, is over.
  void Enforce();
  void UpdateGauges();
  void SendSpeed();

  void Handle(const v1::SessionResponse& message);
  void Start(const v1::StartAttempt& order);
  void Stop(const v1::StopAttempt& order);
  void Forget(const v1::ForgetAttempt& order);
  void Command(const v1::RankCommand& command);

  const Options options_;
  const RankStarter starter_;
  FileDescriptor wake_;
  SocketWatch sockets_;
  int64_t next_tick_ms_ = 0;
  AttemptSet attempts_;
  AttemptRelay relay_;
  std::optional<v1::DeviceSpeed> speed_;
  // Until when ranks may run. Until the first renewal: what they can have been told at most.
  int64_t lease_until_ms_ = 0;
  bool lease_renewed_ = false;

  absl::Mutex mutex_;
  std::vector<std::function<void()>> posted_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

}  // namespace moe::worker
