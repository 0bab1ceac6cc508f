// Launches of the SwiGLU kernels (Plugin in plugin.h has the contract). Each returns the launch
// error. Free of LibTorch and Abseil, so that nvcc compiles it in seconds.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "worker/cuda/element_type.h"

namespace moe::cuda {

cudaError_t LaunchSwigluForward(ElementType type, const void* gate_up, void* h, int64_t num_tokens,
                                int64_t width, cudaStream_t stream);
cudaError_t LaunchSwigluBackward(ElementType type, const void* gate_up, const void* d_h,
                                 void* d_gate_up, int64_t num_tokens, int64_t width,
                                 cudaStream_t stream);

}  // namespace moe::cuda
