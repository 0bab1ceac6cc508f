// CUDA's errors as exceptions.
#pragma once

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <stdexcept>

namespace moe::cuda {

// std::runtime_error with `what` and CUDA's own words.
inline void CheckCuda(cudaError_t error, const char* what) {
  if (error != cudaSuccess) {
    throw std::runtime_error(fmt::format("{}: {}", what, cudaGetErrorString(error)));
  }
}

}  // namespace moe::cuda
