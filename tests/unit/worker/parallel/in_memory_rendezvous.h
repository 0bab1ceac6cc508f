// A rendezvous among threads of one process.
#pragma once

#include <map>
#include <string>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "worker/parallel/rendezvous.h"

namespace moe::parallel {

class InMemoryRendezvous final : public Rendezvous {
 public:
  void Put(const std::string& key, const std::string& value) override {
    absl::MutexLock lock(&mutex_);
    values_[key] = value;
  }
  absl::StatusOr<std::string> Get(const std::string& key, int64_t timeout_ms) override {
    absl::MutexLock lock(&mutex_);
    const auto is_there = [&] { return values_.count(key) > 0; };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&is_there), absl::Milliseconds(timeout_ms))) {
      return DeadlineExceeded("nobody has put '{}' within {} ms", key, timeout_ms);
    }
    return values_[key];
  }

 private:
  absl::Mutex mutex_;
  std::map<std::string, std::string> values_;
};

}  // namespace moe::parallel
