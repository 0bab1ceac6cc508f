#include "worker/cuda/plugin.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <cstring>
#include <stdexcept>

#include "worker/cuda/check.h"
#include "worker/cuda/cuda_step_kernels.h"
#include "worker/cuda/nccl_communicator.h"

namespace moe::cuda {
namespace {

static_assert(sizeof(NcclId) == sizeof(ncclUniqueId));

class CudaPlugin final : public Plugin {
 public:
  int NumDevices() const override {
    int count = 0;
    CheckCuda(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
    return count;
  }

  DeviceInfo Describe(int device) const override {
    cudaDeviceProp properties;
    CheckCuda(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
    return {.name = properties.name,
            .memory_bytes = static_cast<int64_t>(properties.totalGlobalMem),
            .compute_capability = 10 * properties.major + properties.minor};
  }

  std::unique_ptr<kernels::device::StepKernels> MakeStepKernels(int device) override {
    return std::make_unique<CudaStepKernels>(device);
  }

  NcclId MakeNcclId() override {
    ncclUniqueId id;
    if (const ncclResult_t result = ncclGetUniqueId(&id); result != ncclSuccess) {
      throw std::runtime_error(fmt::format("ncclGetUniqueId: {}", ncclGetErrorString(result)));
    }
    NcclId out;
    std::memcpy(out.bytes, id.internal, sizeof out.bytes);
    return out;
  }

  std::unique_ptr<parallel::Communicator> MakeNcclCommunicator(const NcclId& id, int device,
                                                               int rank, int world_size) override {
    ncclUniqueId nccl_id;
    std::memcpy(nccl_id.internal, id.bytes, sizeof id.bytes);
    return std::make_unique<NcclCommunicator>(nccl_id, device, rank, world_size);
  }
};

}  // namespace
}  // namespace moe::cuda

extern "C" {

int moe_cuda_plugin_version() { return moe::cuda::kPluginVersion; }

moe::cuda::Plugin* moe_cuda_plugin() {
  static moe::cuda::CudaPlugin plugin;
  return &plugin;
}
}
