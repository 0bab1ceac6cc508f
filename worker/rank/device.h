// What this rank computes on.
#pragma once

#include <string>

#include "worker/model/model.h"

namespace moe::rank {

struct Device {
  int threads = 1;
  std::string bf16_feature;  // "avx512_bf16", "amx_bf16"; empty where bf16 would be emulated

  std::string Name() const;  // "cpu avx512_bf16, 2 threads"
};

// The CPU's bf16 instructions from the text of /proc/cpuinfo; empty where it has none.
std::string Bf16Feature(const std::string& cpuinfo);

// Tells LibTorch how many threads to use, and looks at the CPU. Call once, before any tensor work.
Device OpenDevice(int threads);

// "bf16" or "fp32" as the type to compute in. bf16 without instructions for it is up to 500 times
// slower than fp32, so there it becomes fp32, with a warning in the log.
model::ComputeType ChooseCompute(const std::string& requested, const Device& device);
const char* ComputeName(model::ComputeType compute);  // "bf16"

}  // namespace moe::rank
