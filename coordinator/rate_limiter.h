// How often each user may call: a bucket of tokens per user that fills at a steady rate. Pure but
// for the buckets: time comes with the call.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>

namespace moe::coordinator {

class RateLimiter {
 public:
  struct Options {
    double calls_per_second = 0;  // 0: no limit
    double burst = 0;             // calls at once, after a pause
  };

  explicit RateLimiter(Options options) : options_(options) {}

  // 0: the call may go on, and is counted. Else after how many seconds there is room for it.
  double Take(const std::string& user, int64_t monotonic_millis) {
    if (options_.calls_per_second <= 0) return 0;
    const auto [it, is_new] = buckets_.try_emplace(user);
    Bucket& bucket = it->second;
    if (is_new) {
      bucket.calls = options_.burst;
    } else {
      const double seconds = static_cast<double>(monotonic_millis - bucket.at_millis) / 1000.0;
      bucket.calls = std::min(options_.burst, bucket.calls + seconds * options_.calls_per_second);
    }
    bucket.at_millis = monotonic_millis;
    if (bucket.calls >= 1) {
      bucket.calls -= 1;
      return 0;
    }
    return (1 - bucket.calls) / options_.calls_per_second;
  }

 private:
  struct Bucket {
    double calls = 0;  // that may come now
    int64_t at_millis = 0;
  };

  const Options options_;
  std::map<std::string, Bucket> buckets_;  // by user: no more than there are tokens
};

}  // namespace moe::coordinator
