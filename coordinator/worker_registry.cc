#include "coordinator/worker_registry.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/status.h"
#include "coordinator/timestamp.h"

namespace moe::coordinator {

void WorkerRegistry::Expect(const std::string& worker_id, int64_t monotonic_millis) {
  Entry& entry = workers_[worker_id];
  entry.worker.set_worker_id(worker_id);
  entry.heard_millis = monotonic_millis;
}

void WorkerRegistry::Register(Turn& turn, const v1::Register& hello,
                              std::shared_ptr<WorkerSession> session) {
  Entry& entry = workers_[hello.worker_id()];
  if (entry.session != nullptr) {
    turn.After([old = entry.session, id = hello.worker_id()] {
      old->End(Aborted("worker '{}' opened another session", id));
    });
  }
  entry.session = std::move(session);
  entry.worker.set_worker_id(hello.worker_id());
  entry.worker.set_host(hello.host());
  entry.worker.set_version(hello.version());
  *entry.worker.mutable_slots() = hello.slots();
  Heartbeat(turn, hello.worker_id());
}

bool WorkerRegistry::IsCurrent(const std::string& worker_id, const WorkerSession* session) const {
  const auto it = workers_.find(worker_id);
  return it != workers_.end() && it->second.session.get() == session;
}

void WorkerRegistry::Heartbeat(const Turn& turn, const std::string& worker_id) {
  const auto it = workers_.find(worker_id);
  if (it == workers_.end()) return;
  it->second.heard_millis = turn.monotonic_millis;
  it->second.lost = false;
  *it->second.worker.mutable_last_heartbeat_time() = ToTimestamp(turn.unix_millis);
}

void WorkerRegistry::SetSpeed(const std::string& worker_id, const v1::DeviceSpeed& speed) {
  const auto it = workers_.find(worker_id);
  if (it == workers_.end()) return;
  for (v1::Slot& slot : *it->second.worker.mutable_slots()) *slot.mutable_speed() = speed;
}

void WorkerRegistry::SessionClosed(const std::string& worker_id, const WorkerSession* session) {
  if (IsCurrent(worker_id, session)) workers_.at(worker_id).session = nullptr;
}

void WorkerRegistry::Hold(const std::string& worker_id, int32_t slot, const std::string& attempt) {
  workers_[worker_id].holders[slot] = attempt;
}

void WorkerRegistry::Release(const std::string& worker_id, int32_t slot) {
  workers_[worker_id].holders.erase(slot);
}

std::vector<std::string> WorkerRegistry::TakeLost(int64_t monotonic_millis) {
  std::vector<std::string> lost;
  for (auto& [id, entry] : workers_) {
    if (entry.lost || monotonic_millis < ExpiryMillis(entry)) continue;
    entry.lost = true;
    lost.push_back(id);
  }
  return lost;
}

int64_t WorkerRegistry::NextExpiryMillis() const {
  int64_t next = std::numeric_limits<int64_t>::max();
  for (const auto& [id, entry] : workers_) {
    if (!entry.lost) next = std::min(next, ExpiryMillis(entry));
  }
  return next;
}

void WorkerRegistry::Send(Turn& turn, const std::string& worker_id, v1::SessionResponse message) {
  turn.After([this, worker_id, message = std::move(message)] {
    const auto it = workers_.find(worker_id);
    if (it != workers_.end() && it->second.session != nullptr) it->second.session->Send(message);
  });
}

std::vector<WorkerSlots> WorkerRegistry::Snapshot(int64_t monotonic_millis) const {
  std::vector<WorkerSlots> snapshot;
  for (const auto& [id, entry] : workers_) {
    if (StateOf(entry, monotonic_millis) != v1::WORKER_STATE_READY) continue;
    WorkerSlots slots{.worker_id = id, .total = entry.worker.slots_size(), .free = {}};
    for (const v1::Slot& slot : entry.worker.slots()) {
      if (!entry.holders.contains(slot.index())) slots.free.push_back(slot.index());
    }
    std::sort(slots.free.begin(), slots.free.end());
    snapshot.push_back(std::move(slots));
  }
  return snapshot;
}

v1::WorkerState WorkerRegistry::StateOf(const Entry& entry, int64_t monotonic_millis) const {
  if (entry.lost) return v1::WORKER_STATE_LOST;
  const bool late = monotonic_millis > entry.heard_millis + 2 * options_.heartbeat_interval_ms;
  return entry.session == nullptr || late ? v1::WORKER_STATE_SUSPECT : v1::WORKER_STATE_READY;
}

v1::WorkerState WorkerRegistry::StateOf(const std::string& worker_id,
                                        int64_t monotonic_millis) const {
  const auto it = workers_.find(worker_id);
  return it == workers_.end() ? v1::WORKER_STATE_UNSPECIFIED
                              : StateOf(it->second, monotonic_millis);
}

v1::ListWorkersResponse WorkerRegistry::List(int64_t monotonic_millis) const {
  v1::ListWorkersResponse response;
  for (const auto& [id, entry] : workers_) {
    v1::Worker& worker = *response.add_workers();
    worker = entry.worker;
    worker.set_state(StateOf(entry, monotonic_millis));
    for (v1::Slot& slot : *worker.mutable_slots()) {
      const auto holder = entry.holders.find(slot.index());
      if (holder != entry.holders.end()) slot.set_attempt(holder->second);
    }
  }
  return response;
}

}  // namespace moe::coordinator
