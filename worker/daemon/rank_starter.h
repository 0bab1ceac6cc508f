#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/clock.h"
#include "moe/v1/worker_service.pb.h"
#include "worker/daemon/attempt.h"
#include "worker/daemon/worker_metrics.h"

namespace moe::worker {

// Turns an order to start a rank into a process.
class RankStarter {
 public:
  struct Options {
    std::string bin_dir;    // of moe-rank and moe-prepare
    std::string rank_host;  // how the ranks of other workers reach those here
    std::vector<v1::Slot> slots;
    const Clock* clock = nullptr;
    WorkerMetrics* metrics = nullptr;
  };
  explicit RankStarter(Options options) : options_(std::move(options)) {}

  // Starts the rank on a slot, with a lease from its first moment on. Where that fails, the reason
  // is the one report of the rank, and it counts as ended.
  void Start(const Attempt& attempt, Rank& rank, int slot, const std::string& kind,
             int64_t lease_until_ms) const;

 private:
  absl::Status TryStart(const Attempt& attempt, Rank& rank, const std::string& kind,
                        int64_t lease_until_ms) const;
  const v1::Slot* FindSlot(int index) const;

  const Options options_;
};

}  // namespace moe::worker
