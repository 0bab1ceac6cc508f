#include "coordinator/queues/queue_usage.h"

#include <limits>

namespace moe::coordinator {

double QueueUsage::At(const Use& use, double now_seconds) {
  DecayedUsage used = use.past;
  used.Hold(static_cast<double>(use.slots), use.since_seconds, now_seconds);
  return used.At(now_seconds);
}

void QueueUsage::Change(const Key& key, int64_t slots, double now_seconds) {
  Use& use = uses_.try_emplace(key, half_life_seconds_).first->second;
  use.past.Hold(static_cast<double>(use.slots), use.since_seconds, now_seconds);
  use.slots += slots;
  use.since_seconds = now_seconds;
}

void QueueUsage::Add(const Key& key, int64_t slots, double from_seconds, double to_seconds) {
  Use& use = uses_.try_emplace(key, half_life_seconds_).first->second;
  DecayedUsage added(half_life_seconds_);
  added.Hold(static_cast<double>(slots), from_seconds, to_seconds);
  use.past.Merge(added);
}

double QueueUsage::At(const Key& key, double now_seconds) const {
  const auto it = uses_.find(key);
  return it == uses_.end() ? 0 : At(it->second, now_seconds);
}

double QueueUsage::OfQueue(int32_t queue, double now_seconds) const {
  double sum = 0;
  for (auto it = uses_.lower_bound({queue, ""}); it != uses_.end() && it->first.first == queue;
       ++it) {
    sum += At(it->second, now_seconds);
  }
  return sum;
}

}  // namespace moe::coordinator
