// The boundary between moe-rank and libmoe_cuda.so: everything that needs the CUDA toolkit, NCCL or
// LibTorch's CUDA part.
//
// moe-rank is one program for CPU and GPU. Where a GPU is, it loads the plug-in that lies beside it
// (LoadPlugin below); where none is, nothing of CUDA is touched. Both sides are built together, so
// the boundary is a C++ class behind one exported function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/kernels/device/step_kernels.h"
#include "worker/parallel/communicator.h"

namespace moe::cuda {

// Changes with every change of Plugin: a plug-in of another build is refused.
inline constexpr int kPluginVersion = 2;

// ncclUniqueId: made by rank 0, given to all ranks.
struct NcclId {
  char bytes[128];
};

struct DeviceInfo {
  std::string name;  // "NVIDIA H100 80GB HBM3"
  int64_t memory_bytes = 0;
  int compute_capability = 0;  // 90 for 9.0
};

// Errors are exceptions (std::runtime_error) with CUDA's own words.
class Plugin {
 public:
  virtual ~Plugin() = default;

  virtual int NumDevices() const = 0;
  virtual DeviceInfo Describe(int device) const = 0;

  // What a model needs to be on `device`, which becomes the thread's current one.
  virtual std::unique_ptr<kernels::device::StepKernels> MakeStepKernels(int device) = 0;

  virtual NcclId MakeNcclId() = 0;
  // Collectives over NCCL for tensors on `device`. Blocks until all ranks have called it.
  virtual std::unique_ptr<parallel::Communicator> MakeNcclCommunicator(const NcclId& id, int device,
                                                                       int rank,
                                                                       int world_size) = 0;
};

// Whether the NVIDIA driver is loaded and has a device. Cheap; touches no CUDA library.
bool HasGpu();

// Loads `folder`/libmoe_cuda.so. FAILED_PRECONDITION where there is no GPU, NOT_FOUND where the
// plug-in was not built (nvcc was missing), INTERNAL where it is of another build or what it needs
// is missing. Never unloaded.
absl::StatusOr<Plugin*> LoadPlugin(const std::string& folder);

}  // namespace moe::cuda
