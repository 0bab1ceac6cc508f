#include <variant>

#include "worker/cuda/launch.h"
#include "worker/cuda/team.cuh"

namespace moe::cuda {
namespace {

using kernels::device::Bf16;
using kernels::device::ElementType;
using kernels::device::HasElementType;

// Threads of a block: as many rows as fit.
template <typename Kernel>
constexpr int kBlockThreads = Kernel::kThreads > 128 ? Kernel::kThreads : 128;

template <typename T, typename Kernel>
__global__ void __launch_bounds__(kBlockThreads<Kernel>) RunRows(const Kernel kernel) {
  constexpr int kRowsPerBlock = kBlockThreads<Kernel> / Kernel::kThreads;
  const int64_t row =
      static_cast<int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.x / Kernel::kThreads;
  if (row < kernel.rows) kernel.template Row<T>(row, Team<Kernel::kThreads>());
}

template <typename T, typename Kernel>
cudaError_t LaunchRows(const Kernel& kernel, cudaStream_t stream) {
  if (kernel.rows == 0) return cudaSuccess;
  constexpr int64_t kRowsPerBlock = kBlockThreads<Kernel> / Kernel::kThreads;
  const int64_t blocks = kernels::device::PartsOf(kernel.rows, kRowsPerBlock);
  RunRows<T><<<static_cast<unsigned>(blocks), kBlockThreads<Kernel>, 0, stream>>>(kernel);
  return cudaGetLastError();
}

template <typename Kernel>
cudaError_t LaunchKernel(const Kernel& kernel, cudaStream_t stream) {
  if constexpr (HasElementType<Kernel>) {
    if (kernel.type == ElementType::kBf16) return LaunchRows<Bf16>(kernel, stream);
  }
  return LaunchRows<float>(kernel, stream);
}

}  // namespace

cudaError_t Launch(const kernels::device::StepKernel& kernel, cudaStream_t stream) {
  return std::visit([stream](const auto& concrete) { return LaunchKernel(concrete, stream); },
                    kernel);
}

}  // namespace moe::cuda
