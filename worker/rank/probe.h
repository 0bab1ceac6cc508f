// What this machine can do, measured with the code that trains: in a few seconds.
#pragma once

#include <cstdint>

#include "common/json.h"
#include "planner/machine.h"
#include "worker/model/model.h"
#include "worker/rank/device.h"

namespace moe::rank {

// moe.v1.DeviceSpeed, with the device's threads.
struct DeviceSpeed {
  planner::ComputeRates bf16, fp32;  // bf16: of the type that bf16 jobs compute in here
  double memory_bytes = 0;
  int64_t process_bytes = 0;
  bool has_bf16 = false;
};
Json ToJson(const DeviceSpeed& speed);

// Of the CPU.
DeviceSpeed MeasureSpeed(const Device& device);

// Floating-point operations per second of large matrix products: what utilisation is a share of.
double MeasurePeakFlops(model::ComputeType compute, const Device& device);

}  // namespace moe::rank
