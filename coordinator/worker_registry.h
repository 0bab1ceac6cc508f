// The workers: who is connected, which slots they have, who holds them, and when their leases run
// out. Belongs to the loop's thread (coordinator/turn.h). Workers say who they are when they
// connect; stored is only what an operator said of them.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/scheduler/schedule.h"
#include "coordinator/turn.h"
#include "moe/v1/cluster_service.pb.h"
#include "moe/v1/worker_service.pb.h"
#include "storage/rocks/store.h"

namespace moe::coordinator {

// The coordinator's end of a worker's stream. Both calls return at once and may be made from any
// thread, also after the stream has ended.
class WorkerSession {
 public:
  virtual ~WorkerSession() = default;
  virtual void Send(const v1::SessionResponse& message) = 0;
  virtual void End(const absl::Status& status) = 0;
};

// The version of the protocol to speak with the worker; nothing where there is none in common.
std::optional<int32_t> ProtocolWith(const v1::Register& hello);

class WorkerRegistry {
 public:
  struct Options {
    int64_t lease_ttl_ms = 30000;
    // Added to the TTL before a lease counts as run out: a rank may need this long, after its lease
    // ended, until it is certainly gone (RunChannel::Options::lease_grace_ms), plus clock drift.
    int64_t lease_margin_ms = 6000;
    int64_t heartbeat_interval_ms = 5000;
  };

  explicit WorkerRegistry(Options options) : options_(options) {}
  const Options& options() const { return options_; }

  // Reads who is drained. Once, before anything else.
  absl::Status Load(const storage::Store& store);
  // A worker that held slots before a restart of the coordinator: it has one TTL to come back.
  void Expect(const std::string& worker_id, int64_t monotonic_millis);
  // A worker connected: its earlier session, if any, is ended.
  void Register(Turn& turn, const v1::Register& hello, std::shared_ptr<WorkerSession> session);
  // Whether `session` is the worker's present one; anything from an earlier one is void.
  bool IsCurrent(const std::string& worker_id, const WorkerSession* session) const;
  void Heartbeat(const Turn& turn, const std::string& worker_id);
  // What each slot of the worker was measured to do.
  void SetSpeed(const std::string& worker_id, const v1::DeviceSpeed& speed);
  void SessionClosed(const std::string& worker_id, const WorkerSession* session);

  // Gives a worker no more work, until it is undrained. INVALID_ARGUMENT where there is no reason,
  // NOT_FOUND for a worker that was never heard of.
  absl::Status Drain(Turn& turn, const std::string& worker_id, const std::string& reason,
                     const std::string& user);
  absl::Status Undrain(Turn& turn, const std::string& worker_id);
  // Attempts that hold its slots, as "j17.2".
  std::set<std::string> AttemptsOn(const std::string& worker_id) const;

  void Hold(const std::string& worker_id, int32_t slot, const std::string& attempt);
  void Release(const std::string& worker_id, int32_t slot);

  // Workers whose leases have run out since the last call. Costs nothing before NextExpiryMillis.
  std::vector<std::string> TakeLost(int64_t monotonic_millis);
  // No lease runs out before; INT64_MAX for never. Leases that were renewed since the last TakeLost
  // may make it later than this.
  int64_t NextExpiryMillis() const { return next_expiry_millis_; }

  // How many workers there are of each kind, and the slots of those that are not lost.
  struct Census {
    int ready = 0;
    int drained = 0;
    int suspect = 0;
    int lost = 0;
    int64_t slots = 0;
  };
  Census Count(int64_t monotonic_millis) const;
  // Grows with every change of what Count says, except that time makes a READY worker SUSPECT.
  uint64_t changes() const { return changes_; }

  // Sends once the turn is durable, if the worker is connected then.
  void Send(Turn& turn, const std::string& worker_id, v1::SessionResponse message);

  // The slots of the workers that are READY and not drained; a worker with slots of several kinds
  // comes once per kind.
  std::vector<WorkerSlots> Snapshot(int64_t monotonic_millis) const;
  // One worker, as List shows it; it must be known.
  v1::Worker Get(const std::string& worker_id, int64_t monotonic_millis) const;
  // Of the workers that are READY, without what changes with every job: their attempts.
  void ForEachReady(int64_t monotonic_millis,
                    const std::function<void(const v1::Worker&)>& visit) const;
  // By name.
  v1::ListWorkersResponse List(int64_t monotonic_millis) const;
  v1::WorkerState StateOf(const std::string& worker_id, int64_t monotonic_millis) const;

 private:
  struct Entry {
    v1::Worker worker;
    std::shared_ptr<WorkerSession> session;  // null: not connected
    int64_t heard_millis = 0;                // monotonic
    bool lost = false;
    std::map<int32_t, std::string> holders;  // slot -> "j17.2"
  };

  int64_t ExpiryMillis(const Entry& entry) const {
    return entry.heard_millis + options_.lease_ttl_ms + options_.lease_margin_ms;
  }
  // The worker was heard of: its lease is as good as new.
  void Hear(Entry& entry, int64_t monotonic_millis);
  absl::StatusOr<Entry*> Find(const std::string& worker_id);
  v1::Worker Shown(const Entry& entry, int64_t monotonic_millis) const;
  v1::WorkerState StateOf(const Entry& entry, int64_t monotonic_millis) const;

  const Options options_;
  std::map<std::string, Entry> workers_;
  int64_t next_expiry_millis_ = std::numeric_limits<int64_t>::max();
  uint64_t changes_ = 1;
};

}  // namespace moe::coordinator
