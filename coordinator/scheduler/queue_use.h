// What the queues use of their quotas.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "coordinator/scheduler/snapshot.h"

namespace moe::coordinator {

class QueueUse {
 public:
  explicit QueueUse(const std::vector<QueueRules>& rules);

  // Slots taken by a job of this queue; negative: given back.
  void Add(int32_t queue, int64_t slots);
  int64_t used(int32_t queue) const { return used_[static_cast<size_t>(queue)]; }
  // The queue whose limit forbids so many more slots; -1: none.
  int32_t OverLimit(int32_t queue, int64_t slots) const;
  // Whether so many more slots are still within the queue's own quota.
  bool IsEntitled(int32_t queue, int64_t slots) const;
  // Whether it has more than its quota.
  bool Borrows(int32_t queue) const { return !IsEntitled(queue, 0); }
  // Whether it has its quota even with so many slots less.
  bool IsBeyondQuotaWithout(int32_t queue, size_t slots) const {
    return used(queue) - static_cast<int64_t>(slots) >= rules_[static_cast<size_t>(queue)].quota;
  }
  // Idle slots that queues other than this one, and those above it, do not lend.
  int64_t KeptByOthers(int32_t queue) const;

 private:
  const std::vector<QueueRules>& rules_;
  bool all_lend_ = true;  // whatever is idle
  std::vector<int64_t> used_;
};

}  // namespace moe::coordinator
