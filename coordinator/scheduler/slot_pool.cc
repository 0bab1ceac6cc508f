#include "coordinator/scheduler/slot_pool.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace moe::coordinator {

SlotPool::SlotPool(std::vector<WorkerSlots> workers, const std::vector<PlacedNow>& placed)
    : workers_(std::move(workers)), placed_(placed) {
  by_id_.reserve(workers_.size());
  for (size_t i = 0; i < workers_.size(); ++i) {
    by_id_[workers_[i].worker_id].push_back(i);
    free_ += static_cast<int64_t>(workers_[i].free.size());
  }
}

int SlotPool::NeedOf(const QueuedJob& job) {
  for (size_t i = 0; i < needs_.size(); ++i) {
    if (needs_[i].memory_bytes == job.memory_bytes && needs_[i].device == job.device) {
      return static_cast<int>(i);
    }
  }
  Need& need = needs_.emplace_back();
  need.device = job.device;
  need.memory_bytes = job.memory_bytes;
  need.matches.resize(workers_.size());
  for (size_t i = 0; i < workers_.size(); ++i) {
    const WorkerSlots& worker = workers_[i];
    if (!need.device.empty() && need.device != worker.device) continue;
    if (worker.memory_bytes < need.memory_bytes) continue;
    need.matches[i] = 1;
    need.total += worker.total;
    need.free += static_cast<int64_t>(worker.free.size());
  }
  for (Need& other : needs_) {
    char common = &other == &need ? 1 : 0;
    for (size_t i = 0; i < workers_.size() && common == 0; ++i) {
      common = static_cast<char>(need.matches[i] & other.matches[i]);
    }
    need.overlaps.push_back(common);
    if (&other != &need) other.overlaps.push_back(common);
  }
  return static_cast<int>(needs_.size()) - 1;
}

int64_t SlotPool::CountHeld(int need_index, size_t placed) const {
  const Need& need = needs_[static_cast<size_t>(need_index)];
  if (need.held.empty()) {
    need.held.reserve(placed_.size());
    for (const PlacedNow& job : placed_) need.held.push_back(Count(need, job));
  }
  return need.held[placed];
}

int32_t SlotPool::Count(const Need& need, const PlacedNow& job) const {
  int32_t count = 0;
  const std::string* last = nullptr;
  bool last_counts = false;
  for (const std::string& worker : job.slot_workers) {
    if (last == nullptr || worker != *last) {
      last = &worker;
      const auto it = by_id_.find(worker);
      // Of a worker with two kinds of slots it is not known which is held: only what is certain.
      last_counts =
          it != by_id_.end() && std::all_of(it->second.begin(), it->second.end(),
                                            [&](size_t i) { return need.matches[i] != 0; });
    }
    count += last_counts ? 1 : 0;
  }
  return count;
}

bool SlotPool::Usable(const Need& need, size_t worker, const QueuedJob& job) const {
  if (need.matches[worker] == 0) return false;
  const auto& excluded = job.excluded_workers;
  return excluded.empty() ||
         std::find(excluded.begin(), excluded.end(), workers_[worker].worker_id) == excluded.end();
}

SlotPool::Room SlotPool::RoomFor(int need_index, const QueuedJob& job) const {
  const Need& need = needs_[static_cast<size_t>(need_index)];
  Room room{need.total, need.free};
  for (const std::string& excluded : job.excluded_workers) {
    const auto it = by_id_.find(excluded);
    if (it == by_id_.end()) continue;
    for (const size_t i : it->second) {
      if (need.matches[i] == 0) continue;
      room.total -= workers_[i].total;
      room.free -= static_cast<int64_t>(workers_[i].free.size());
    }
  }
  return room;
}

std::vector<SlotGrant> SlotPool::Take(int need_index, const QueuedJob& job) {
  const Need& need = needs_[static_cast<size_t>(need_index)];
  const auto wanted = static_cast<size_t>(job.slots);
  std::vector<size_t> chosen;
  for (size_t i = 0; i < workers_.size(); ++i) {
    if (workers_[i].free.size() < wanted || !Usable(need, i, job)) continue;
    if (chosen.empty() || workers_[i].free.size() < workers_[chosen[0]].free.size()) chosen = {i};
    if (workers_[i].free.size() == wanted) break;  // there is no tighter one
  }
  if (chosen.empty()) {
    for (size_t i = 0; i < workers_.size(); ++i) {
      if (!workers_[i].free.empty() && Usable(need, i, job)) chosen.push_back(i);
    }
    std::stable_sort(chosen.begin(), chosen.end(), [&](size_t a, size_t b) {
      return workers_[a].free.size() > workers_[b].free.size();
    });
  }
  std::vector<SlotGrant> grants;
  size_t missing = wanted;
  for (const size_t i : chosen) {
    if (missing == 0) break;
    std::vector<int32_t>& free = workers_[i].free;
    const size_t count = std::min(free.size(), missing);
    const auto end = free.begin() + static_cast<std::ptrdiff_t>(count);
    grants.push_back({workers_[i].worker_id, {free.begin(), end}});
    free.erase(free.begin(), end);
    missing -= count;
    free_ -= static_cast<int64_t>(count);
    for (Need& other : needs_) {
      if (other.matches[i] != 0) other.free -= static_cast<int64_t>(count);
    }
  }
  return grants;
}

}  // namespace moe::coordinator
