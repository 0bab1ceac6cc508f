// What ranks can run on here.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "moe/v1/cluster_service.pb.h"

namespace moe::worker {

struct SlotOptions {
  int cpu_slots = 1;
  int threads_per_slot = 0;  // 0: the cores this process may use, divided among the slots
};

// CPU slots: equal shares of the cores and of the memory. INVALID_ARGUMENT where there would be a
// slot without a core.
absl::StatusOr<std::vector<v1::Slot>> DetectSlots(const SlotOptions& options);

}  // namespace moe::worker
