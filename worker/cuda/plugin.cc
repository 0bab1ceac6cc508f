#include "worker/cuda/plugin.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <cstring>
#include <stdexcept>

#include "worker/cuda/nccl_communicator.h"
#include "worker/cuda/swiglu_launch.h"

namespace moe::cuda {
namespace {

static_assert(sizeof(NcclId) == sizeof(ncclUniqueId));

void Check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) {
    throw std::runtime_error(fmt::format("{}: {}", what, cudaGetErrorString(error)));
  }
}

class CudaPlugin final : public Plugin {
 public:
  int NumDevices() const override {
    int count = 0;
    Check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
    return count;
  }

  std::string DeviceName(int device) const override {
    cudaDeviceProp properties;
    Check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
    return properties.name;
  }

  void SwigluForward(ElementType type, const void* gate_up, void* h, int64_t num_tokens,
                     int64_t width) override {
    Check(LaunchSwigluForward(type, gate_up, h, num_tokens, width, nullptr), "SwigluForward");
  }

  void SwigluBackward(ElementType type, const void* gate_up, const void* d_h, void* d_gate_up,
                      int64_t num_tokens, int64_t width) override {
    Check(LaunchSwigluBackward(type, gate_up, d_h, d_gate_up, num_tokens, width, nullptr),
          "SwigluBackward");
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
