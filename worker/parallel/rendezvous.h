// How ranks find each other before they are connected: values that one puts and all can get.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "common/run_channel.h"

namespace moe::parallel {

class Rendezvous {
 public:
  virtual ~Rendezvous() = default;
  // A key is put once.
  virtual void Put(const std::string& key, const std::string& value) = 0;
  // Waits until somebody has put `key`. DEADLINE_EXCEEDED naming it.
  virtual absl::StatusOr<std::string> Get(const std::string& key, int64_t timeout_ms) = 0;
};

// Through the coordinator, fenced by the attempt. `channel` outlives this.
class RunChannelRendezvous final : public Rendezvous {
 public:
  explicit RunChannelRendezvous(RunChannel& channel) : channel_(channel) {}
  void Put(const std::string& key, const std::string& value) override { channel_.Put(key, value); }
  absl::StatusOr<std::string> Get(const std::string& key, int64_t timeout_ms) override {
    return channel_.Get(key, timeout_ms);
  }

 private:
  RunChannel& channel_;
};

}  // namespace moe::parallel
