// What ranks can run on here.
#pragma once

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "moe/v1/cluster_service.pb.h"
#include "worker/daemon/gpus.h"

namespace moe::worker {

struct SlotOptions {
  std::optional<int> cpu_slots;  // absent: a slot per GPU, or one of the CPUs where there is none
  int threads_per_slot = 0;      // 0: the cores this process may use, divided among the slots
};

// CPU slots: equal shares of the cores and of the memory. GPU slots: one GPU each, whose number is
// the slot's index, with its memory and an equal share of the cores. INVALID_ARGUMENT where there
// would be a slot without a core.
absl::StatusOr<std::vector<v1::Slot>> DetectSlots(const SlotOptions& options,
                                                  const std::vector<Gpu>& gpus);

// `moe-rank --device` of a rank on `slot`: "cpu", or "gpu:N".
std::string DeviceArgument(const v1::Slot& slot);

}  // namespace moe::worker
