// Runs the attempts of this worker: starts ranks, finds those that an earlier daemon started, tells
// them what the coordinator says, relays what they write, and ends them when the lease is gone.
//
// Knows nothing of gRPC: a session (session.h) hands it the coordinator's messages and gives it a
// place to send to. The truth is in the run folders; what is here can be rebuilt from them, which
// is what happens when the daemon starts.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "common/file.h"
#include "moe/v1/worker_service.pb.h"
#include "worker/daemon/rank_link.h"
#include "worker/daemon/rank_process.h"
#include "worker/daemon/relay.h"
#include "worker/daemon/run_folder.h"
#include "worker/daemon/worker_metrics.h"

namespace moe::worker {

// Where messages to the coordinator go.
class SessionSink {
 public:
  virtual ~SessionSink() = default;
  // Takes the message; never blocks. Once the session has ended it is dropped: whatever matters is
  // sent again in the next. Thread-safe.
  virtual void Send(v1::SessionRequest message) = 0;
};

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
    // How often logs are looked at and lost connections to ranks are tried.
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
  struct Rank;
  struct Attempt;

  explicit Supervisor(const Options& options, FileDescriptor wake);

  void SendSpeed();
  void Post(std::function<void()> work);
  void Run();

  // Everything below is for the supervisor's thread (and for Open, before it runs).
  absl::Status Load();
  absl::Status LoadAttempt(const AttemptKey& key);
  void WaitForEvents();
  void HandleEnds();
  void Enforce();
  static void Kill(Rank& rank);
  void Relay();
  void RelayRank(Attempt& attempt, Rank& rank);
  void RelayReports(Attempt& attempt, Rank& rank);
  void RelayLog(Attempt& attempt, Rank& rank);
  void RemoveForgotten();
  void UpdateGauges();

  void Handle(const v1::SessionResponse& message);
  void Start(const v1::StartAttempt& message);
  void StartRank(Attempt& attempt, Rank& rank, const v1::RankPlacement& placement,
                 const std::string& kind);
  void RefuseStart(const v1::StartAttempt& message, const absl::Status& why);
  void Stop(const v1::StopAttempt& message);
  void Forget(const v1::ForgetAttempt& message);
  void Command(const v1::RankCommand& message);

  Attempt* FindAttempt(const v1::AttemptRef& ref);
  Rank* FindRank(const v1::AttemptRef& ref, int rank);
  void ForEachRank(const std::function<void(Attempt&, Rank&)>& visit);
  const v1::Slot* FindSlot(int index) const;

  const Options options_;
  FileDescriptor wake_;

  std::map<AttemptKey, Attempt> attempts_;
  std::shared_ptr<SessionSink> sink_;  // null without a session
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
