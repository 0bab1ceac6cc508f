// The workers: who is connected, which slots they have, who holds them, and when their leases run
// out. Belongs to the loop's thread (coordinator/turn.h); nothing here is stored, since workers
// say who they are when they connect.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/scheduler/schedule.h"
#include "coordinator/turn.h"
#include "moe/v1/cluster_service.pb.h"
#include "moe/v1/worker_service.pb.h"

namespace moe::coordinator {

// The coordinator's end of a worker's stream. Both calls return at once and may be made from any
// thread, also after the stream has ended.
class WorkerSession {
 public:
  virtual ~WorkerSession() = default;
  virtual void Send(const v1::SessionResponse& message) = 0;
  virtual void End(const absl::Status& status) = 0;
};

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

  void Hold(const std::string& worker_id, int32_t slot, const std::string& attempt);
  void Release(const std::string& worker_id, int32_t slot);

  // Workers whose leases have run out since the last call.
  std::vector<std::string> TakeLost(int64_t monotonic_millis);
  // When the next lease would run out; INT64_MAX for never.
  int64_t NextExpiryMillis() const;

  // Sends once the turn is durable, if the worker is connected then.
  void Send(Turn& turn, const std::string& worker_id, v1::SessionResponse message);

  // The slots of the workers that are READY.
  std::vector<WorkerSlots> Snapshot(int64_t monotonic_millis) const;
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
  v1::WorkerState StateOf(const Entry& entry, int64_t monotonic_millis) const;

  const Options options_;
  std::map<std::string, Entry> workers_;
};

}  // namespace moe::coordinator
