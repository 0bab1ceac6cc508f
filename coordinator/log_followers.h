#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "coordinator/turn.h"

namespace moe::coordinator {

// Who waits for the logs of a job to grow. Belongs to the loop's thread (coordinator/turn.h).
class LogFollowers {
 public:
  // Calls `tell` when a log of the job has grown or will not grow any more. Returns an id.
  int64_t Add(uint64_t job, std::function<void()> tell) {
    followers_.emplace(next_, Follower{job, std::move(tell)});
    return next_++;
  }
  void Remove(int64_t id) { followers_.erase(id); }
  // Tells them once the turn is durable.
  void Tell(Turn& turn, uint64_t job) {
    turn.After([this, job] {
      for (const auto& [id, follower] : followers_) {
        if (follower.job == job) follower.tell();
      }
    });
  }

 private:
  struct Follower {
    uint64_t job = 0;
    std::function<void()> tell;
  };
  std::map<int64_t, Follower> followers_;
  int64_t next_ = 1;
};

}  // namespace moe::coordinator
