// What each user of each queue has used of late: slot-seconds that fade with a half-life. The order
// of jobs of one priority follows from it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "coordinator/scheduler/fair_share.h"

namespace moe::coordinator {

class QueueUsage {
 public:
  using Key = std::pair<int32_t, std::string>;  // queue of the tree, user

  explicit QueueUsage(double half_life_seconds) : half_life_seconds_(half_life_seconds) {}

  // The user holds so many slots more, or less, from now on. Calls come in the order of time.
  void Change(const Key& key, int64_t slots, double now_seconds);
  // Slots were held in the past: for what is read back after a restart. In any order.
  void Add(const Key& key, int64_t slots, double from_seconds, double to_seconds);
  double At(const Key& key, double now_seconds) const;
  // Of all users of a queue.
  double OfQueue(int32_t queue, double now_seconds) const;

 private:
  struct Use {
    explicit Use(double half_life_seconds) : past(half_life_seconds) {}
    DecayedUsage past;
    int64_t slots = 0;  // held since since_seconds
    double since_seconds = 0;
  };
  static double At(const Use& use, double now_seconds);

  double half_life_seconds_;
  std::map<Key, Use> uses_;
};

}  // namespace moe::coordinator
