// Starts kernels of the device step on a GPU. Free of LibTorch and Abseil, so that nvcc compiles it
// in little time.
#pragma once

#include <cuda_runtime_api.h>

#include "worker/kernels/device/kernel_list.h"

namespace moe::cuda {

// Enqueues `kernel`, whose pointers are of the current device. Returns the launch error.
cudaError_t Launch(const kernels::device::StepKernel& kernel, cudaStream_t stream);

}  // namespace moe::cuda
