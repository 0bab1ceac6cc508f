// What this rank computes on.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "worker/cuda/plugin.h"
#include "worker/kernels/device/step_kernels.h"
#include "worker/model/model.h"

namespace moe::rank {

// A GPU, with the plug-in that drives it.
struct Gpu {
  cuda::Plugin* plugin = nullptr;
  int number = 0;
  cuda::DeviceInfo info;
  std::unique_ptr<kernels::device::StepKernels> kernels;
};

struct Device {
  int threads = 1;
  std::string bf16_feature;             // "avx512_bf16", "amx_bf16"; empty where bf16 is emulated
  std::shared_ptr<const Gpu> gpu = {};  // null: the CPU

  // Of the model's options.
  kernels::device::StepKernels* kernels() const {
    return gpu == nullptr ? nullptr : gpu->kernels.get();
  }
  std::string Name() const;  // "cpu avx512_bf16, 2 threads", "NVIDIA H100 80GB HBM3"
};

// The CPU's bf16 instructions from the text of /proc/cpuinfo; empty where it has none.
std::string Bf16Feature(const std::string& cpuinfo);

// What `request` says: "cpu", null; "gpu:N", with the errors of LoadPlugin and INVALID_ARGUMENT
// where there is no such GPU; or "auto", the first GPU where one can be used, else null with the
// reason in the log.
absl::StatusOr<std::shared_ptr<const Gpu>> ChooseGpu(const std::string& request);

// Tells LibTorch how many threads to use, looks at the CPU and opens what `request` says, as above.
// Call once, before any tensor work.
absl::StatusOr<Device> OpenDevice(const std::string& request, int threads);

// GPUs that "gpu:N" may ask for: [{"number", "name", "memory_bytes", "compute_capability"}]. The
// errors of LoadPlugin, and FAILED_PRECONDITION where the driver refuses.
absl::StatusOr<Json> ListGpus();

// "bf16" or "fp32" as the type to compute in. bf16 without instructions for it is up to 500 times
// slower than fp32, so there it becomes fp32, with a warning in the log.
model::ComputeType ChooseCompute(const std::string& requested, const Device& device);
const char* ComputeName(model::ComputeType compute);  // "bf16"

}  // namespace moe::rank
