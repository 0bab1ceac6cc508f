#include "coordinator/worker_registry.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>

#include "common/nearest.h"
#include "common/net/protocol_version.h"
#include "common/status.h"
#include "coordinator/timestamp.h"

namespace moe::coordinator {
namespace {

constexpr size_t kMaxDrainReason = 500;

}  // namespace

absl::Status WorkerRegistry::Load(const storage::Store& store) {
  return store.ForEachWorker([&](const std::string& worker_id, v1::WorkerRecord record) {
    Entry& entry = workers_[worker_id];
    entry.worker.set_worker_id(worker_id);
    if (record.has_drain()) *entry.worker.mutable_drain() = record.drain();
    entry.lost = true;  // nothing is held there that could still be lost
  });
}

std::optional<int32_t> ProtocolWith(const v1::Register& hello) {
  const int32_t newest = hello.protocol_version();
  const int32_t oldest =
      hello.oldest_protocol_version() == 0 ? newest : hello.oldest_protocol_version();
  return NewestCommon(kProtocolVersions, {.oldest = oldest, .newest = newest});
}

void WorkerRegistry::Expect(const std::string& worker_id, int64_t monotonic_millis) {
  Entry& entry = workers_[worker_id];
  entry.worker.set_worker_id(worker_id);
  Hear(entry, monotonic_millis);
}

void WorkerRegistry::Hear(Entry& entry, int64_t monotonic_millis) {
  const bool was_ready = StateOf(entry, monotonic_millis) == v1::WORKER_STATE_READY;
  entry.heard_millis = monotonic_millis;
  entry.lost = false;
  next_expiry_millis_ = std::min(next_expiry_millis_, ExpiryMillis(entry));
  if (!was_ready) ++changes_;
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
  entry.worker.set_protocol_version(ProtocolWith(hello).value_or(0));
  *entry.worker.mutable_slots() = hello.slots();
  ++changes_;
  Heartbeat(turn, hello.worker_id());
}

bool WorkerRegistry::IsCurrent(const std::string& worker_id, const WorkerSession* session) const {
  const auto it = workers_.find(worker_id);
  return it != workers_.end() && it->second.session.get() == session;
}

void WorkerRegistry::Heartbeat(const Turn& turn, const std::string& worker_id) {
  const auto it = workers_.find(worker_id);
  if (it == workers_.end()) return;
  Hear(it->second, turn.monotonic_millis);
  *it->second.worker.mutable_last_heartbeat_time() = ToTimestamp(turn.unix_millis);
}

void WorkerRegistry::SetSpeed(const std::string& worker_id, const v1::DeviceSpeed& speed) {
  const auto it = workers_.find(worker_id);
  if (it == workers_.end()) return;
  for (v1::Slot& slot : *it->second.worker.mutable_slots()) *slot.mutable_speed() = speed;
}

void WorkerRegistry::SessionClosed(const std::string& worker_id, const WorkerSession* session) {
  if (!IsCurrent(worker_id, session)) return;
  workers_.at(worker_id).session = nullptr;
  ++changes_;
}

absl::StatusOr<WorkerRegistry::Entry*> WorkerRegistry::Find(const std::string& worker_id) {
  const auto it = workers_.find(worker_id);
  if (it != workers_.end()) return &it->second;
  std::vector<std::string> names;
  for (const auto& [id, entry] : workers_) names.push_back(id);
  const std::string nearest = Nearest(worker_id, names);
  return NotFound("no worker '{}' was ever heard of{}; list them with: moectl worker list",
                  worker_id, nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
}

absl::Status WorkerRegistry::Drain(Turn& turn, const std::string& worker_id,
                                   const std::string& reason, const std::string& user) {
  if (reason.empty() || reason.size() > kMaxDrainReason) {
    return InvalidArgument(
        "reason has {} bytes; say in 1 to {} why '{}' is drained, for whoever looks at it next",
        reason.size(), kMaxDrainReason, worker_id);
  }
  MOE_ASSIGN_OR_RETURN(Entry* const entry, Find(worker_id));
  v1::WorkerRecord record;
  v1::Drain& drain = *record.mutable_drain();
  drain.set_reason(reason);
  drain.set_user(user);
  *drain.mutable_time() =
      entry->worker.has_drain() ? entry->worker.drain().time() : ToTimestamp(turn.unix_millis);
  *entry->worker.mutable_drain() = drain;
  ++changes_;
  turn.batch.PutWorker(worker_id, record);
  return absl::OkStatus();
}

absl::Status WorkerRegistry::Undrain(Turn& turn, const std::string& worker_id) {
  MOE_ASSIGN_OR_RETURN(Entry* const entry, Find(worker_id));
  entry->worker.clear_drain();
  ++changes_;
  turn.batch.DeleteWorker(worker_id);
  return absl::OkStatus();
}

std::set<std::string> WorkerRegistry::AttemptsOn(const std::string& worker_id) const {
  std::set<std::string> attempts;
  const auto it = workers_.find(worker_id);
  if (it == workers_.end()) return attempts;
  for (const auto& [slot, attempt] : it->second.holders) attempts.insert(attempt);
  return attempts;
}

void WorkerRegistry::Hold(const std::string& worker_id, int32_t slot, const std::string& attempt) {
  workers_[worker_id].holders[slot] = attempt;
}

void WorkerRegistry::Release(const std::string& worker_id, int32_t slot) {
  workers_[worker_id].holders.erase(slot);
}

std::vector<std::string> WorkerRegistry::TakeLost(int64_t monotonic_millis) {
  std::vector<std::string> lost;
  if (monotonic_millis < next_expiry_millis_) return lost;
  next_expiry_millis_ = std::numeric_limits<int64_t>::max();
  for (auto& [id, entry] : workers_) {
    if (entry.lost) continue;
    if (monotonic_millis < ExpiryMillis(entry)) {
      next_expiry_millis_ = std::min(next_expiry_millis_, ExpiryMillis(entry));
      continue;
    }
    entry.lost = true;
    ++changes_;
    lost.push_back(id);
  }
  return lost;
}

WorkerRegistry::Census WorkerRegistry::Count(int64_t monotonic_millis) const {
  Census census;
  for (const auto& [id, entry] : workers_) {
    const v1::WorkerState state = StateOf(entry, monotonic_millis);
    if (state == v1::WORKER_STATE_LOST) {
      ++census.lost;
      continue;
    }
    census.slots += entry.worker.slots_size();
    if (state == v1::WORKER_STATE_SUSPECT) {
      ++census.suspect;
    } else {
      ++(entry.worker.has_drain() ? census.drained : census.ready);
    }
  }
  return census;
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
    if (entry.worker.has_drain()) continue;
    if (StateOf(entry, monotonic_millis) != v1::WORKER_STATE_READY) continue;
    const auto first = static_cast<std::ptrdiff_t>(snapshot.size());
    for (const v1::Slot& slot : entry.worker.slots()) {
      auto alike =
          std::find_if(snapshot.begin() + first, snapshot.end(), [&](const WorkerSlots& slots) {
            return slots.device == slot.device() && slots.memory_bytes == slot.memory_bytes();
          });
      if (alike == snapshot.end()) {
        alike = snapshot.insert(
            alike, {.worker_id = id, .device = slot.device(), .memory_bytes = slot.memory_bytes()});
      }
      ++alike->total;
      if (!entry.holders.contains(slot.index())) alike->free.push_back(slot.index());
    }
    for (auto kind = snapshot.begin() + first; kind != snapshot.end(); ++kind) {
      std::sort(kind->free.begin(), kind->free.end());
    }
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

void WorkerRegistry::ForEachReady(int64_t monotonic_millis,
                                  const std::function<void(const v1::Worker&)>& visit) const {
  for (const auto& [id, entry] : workers_) {
    if (StateOf(entry, monotonic_millis) == v1::WORKER_STATE_READY) visit(entry.worker);
  }
}

v1::ListWorkersResponse WorkerRegistry::List(int64_t monotonic_millis) const {
  v1::ListWorkersResponse response;
  for (const auto& [id, entry] : workers_) {
    *response.add_workers() = Shown(entry, monotonic_millis);
  }
  return response;
}

v1::Worker WorkerRegistry::Get(const std::string& worker_id, int64_t monotonic_millis) const {
  return Shown(workers_.at(worker_id), monotonic_millis);
}

v1::Worker WorkerRegistry::Shown(const Entry& entry, int64_t monotonic_millis) const {
  v1::Worker worker = entry.worker;
  worker.set_state(StateOf(entry, monotonic_millis));
  for (v1::Slot& slot : *worker.mutable_slots()) {
    const auto holder = entry.holders.find(slot.index());
    if (holder != entry.holders.end()) slot.set_attempt(holder->second);
  }
  return worker;
}

}  // namespace moe::coordinator
