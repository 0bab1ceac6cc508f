// The boundary between moe-rank and libmoe_cuda.so: everything that needs the CUDA toolkit or NCCL.
//
// moe-rank is one program for CPU and GPU. Where a GPU is, it loads the plug-in that lies beside it
// (LoadPlugin below); where none is, nothing of CUDA is touched. Both sides are built together, so
// the boundary is a C++ class behind one exported function.
//
// T tokens, n width of an expert.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/cuda/element_type.h"
#include "worker/parallel/communicator.h"

namespace moe::cuda {

// Changes with every change of Plugin: a plug-in of another build is refused.
inline constexpr int kPluginVersion = 1;

// ncclUniqueId: made by rank 0, given to all ranks through the attempt's rendezvous.
struct NcclId {
  char bytes[128];
};

// All pointers are device pointers on the current device; work is enqueued on the default stream,
// which is LibTorch's as well. Errors are exceptions (std::runtime_error) with CUDA's own words.
class Plugin {
 public:
  virtual ~Plugin() = default;

  virtual int NumDevices() const = 0;
  virtual std::string DeviceName(int device) const = 0;

  // h = silu(gate) * up, with gate = gate_up[:, :n], up = gate_up[:, n:].
  //   gate_up [T, 2 n], h [T, n], both of `type`; computed in fp32.
  virtual void SwigluForward(ElementType type, const void* gate_up, void* h, int64_t num_tokens,
                             int64_t width) = 0;
  // d_gate_up [T, 2 n] from d_h [T, n] and the forward's gate_up.
  virtual void SwigluBackward(ElementType type, const void* gate_up, const void* d_h,
                              void* d_gate_up, int64_t num_tokens, int64_t width) = 0;

  virtual NcclId MakeNcclId() = 0;
  // Collectives over NCCL for tensors on `device`. Blocks until all ranks have called it.
  virtual std::unique_ptr<parallel::Communicator> MakeNcclCommunicator(const NcclId& id, int device,
                                                                       int rank,
                                                                       int world_size) = 0;
};

// Whether the NVIDIA driver is loaded and has a device. Cheap; touches no CUDA library.
bool HasGpu();

// Loads `folder`/libmoe_cuda.so. FAILED_PRECONDITION where there is no GPU, NOT_FOUND where the
// plug-in was not built (nvcc was missing), INTERNAL where it is of another build. Never unloaded.
absl::StatusOr<Plugin*> LoadPlugin(const std::string& folder);

}  // namespace moe::cuda
