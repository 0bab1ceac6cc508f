#include "coordinator/scheduler/queue_use.h"

#include <algorithm>

namespace moe::coordinator {

QueueUse::QueueUse(const std::vector<QueueRules>& rules) : rules_(rules), used_(rules.size(), 0) {
  for (const QueueRules& rule : rules) all_lend_ &= rule.lends >= rule.quota;
}

void QueueUse::Add(int32_t queue, int64_t slots) {
  for (; queue >= 0; queue = rules_[static_cast<size_t>(queue)].parent) {
    used_[static_cast<size_t>(queue)] += slots;
  }
}

int32_t QueueUse::OverLimit(int32_t queue, int64_t slots) const {
  for (; queue >= 0; queue = rules_[static_cast<size_t>(queue)].parent) {
    if (slots > rules_[static_cast<size_t>(queue)].limit - used(queue)) return queue;
  }
  return -1;
}

bool QueueUse::IsEntitled(int32_t queue, int64_t slots) const {
  return used(queue) + slots <= rules_[static_cast<size_t>(queue)].quota;
}

int64_t QueueUse::KeptByOthers(int32_t queue) const {
  if (all_lend_) return 0;
  std::vector<char> own(rules_.size(), 0);
  for (int32_t q = queue; q >= 0; q = rules_[static_cast<size_t>(q)].parent) {
    own[static_cast<size_t>(q)] = 1;
  }
  int64_t kept = 0;
  for (size_t q = 0; q < rules_.size(); ++q) {
    if (own[q] != 0) continue;
    // A queue below a counted one is a part of it.
    bool counted_above = false;
    for (int32_t p = rules_[q].parent; p >= 0; p = rules_[static_cast<size_t>(p)].parent) {
      counted_above |= own[static_cast<size_t>(p)] == 0 && rules_[static_cast<size_t>(p)].quota > 0;
    }
    if (counted_above) continue;
    const int64_t idle = std::max<int64_t>(0, rules_[q].quota - used_[q]);
    kept += std::max<int64_t>(0, idle - rules_[q].lends);
  }
  return kept;
}

}  // namespace moe::coordinator
