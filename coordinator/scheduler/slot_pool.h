// The slots of a snapshot: how many a job could have, and which it gets.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "coordinator/scheduler/schedule.h"
#include "coordinator/scheduler/snapshot.h"

namespace moe::coordinator {

class SlotPool {
 public:
  // `placed` must outlive the pool.
  SlotPool(std::vector<WorkerSlots> workers, const std::vector<PlacedNow>& placed);

  // A kind of slot that jobs ask for: an index for the calls below.
  int NeedOf(const QueuedJob& job);
  int64_t total(int need) const { return needs_[static_cast<size_t>(need)].total; }
  int64_t free(int need) const { return needs_[static_cast<size_t>(need)].free; }
  int64_t free() const { return free_; }
  bool empty() const { return workers_.empty(); }
  // Whether a slot could serve both.
  bool Overlap(int a, int b) const {
    return needs_[static_cast<size_t>(a)].overlaps[static_cast<size_t>(b)] != 0;
  }
  // How many of the slots that a placed job holds are of this kind, on workers that can be given
  // work. The first call for a kind is linear in all placed slots.
  int64_t CountHeld(int need, size_t placed) const;
  // What the job could have at most: of all slots, and of those free now.
  struct Room {
    int64_t total = 0;
    int64_t free = 0;
  };
  Room RoomFor(int need, const QueuedJob& job) const;
  // Takes the job's slots, which are free.
  std::vector<SlotGrant> Take(int need, const QueuedJob& job);

 private:
  struct Need {
    std::string device;
    int64_t memory_bytes = 0;
    int64_t total = 0;
    int64_t free = 0;
    std::vector<char> matches;          // per worker
    std::vector<char> overlaps;         // per need
    mutable std::vector<int32_t> held;  // per placed job; empty: not counted yet
  };
  bool Usable(const Need& need, size_t worker, const QueuedJob& job) const;

  int32_t Count(const Need& need, const PlacedNow& job) const;

  std::vector<WorkerSlots> workers_;
  const std::vector<PlacedNow>& placed_;
  std::unordered_map<std::string, std::vector<size_t>> by_id_;
  std::vector<Need> needs_;
  int64_t free_ = 0;
};

}  // namespace moe::coordinator
