// The team of threads that shares a row of a kernel on a GPU (worker/kernels/device/row_kernel.h):
// one thread, a warp, or a block.
#pragma once

namespace moe::cuda {

struct Plus {
  template <typename Number>
  __device__ Number operator()(Number a, Number b) const {
    return a + b;
  }
};
struct Larger {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

inline constexpr int kWarp = 32;

template <int kThreads>
class Team {
  static_assert(kThreads == 1 || kThreads % kWarp == 0);

 public:
  __device__ int rank() const { return static_cast<int>(threadIdx.x) % kThreads; }
  __device__ int size() const { return kThreads; }
  template <typename Number>
  __device__ Number Sum(Number value) const {
    return Reduce(value, Plus());
  }
  __device__ float Max(float value) const { return Reduce(value, Larger()); }

 private:
  // In the same order on every member, so all get the same bits.
  template <typename Number, typename Combine>
  __device__ Number Reduce(Number value, const Combine& combine) const {
    if constexpr (kThreads == 1) return value;
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
      value = combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
    }
    if constexpr (kThreads > kWarp) {
      constexpr int kWarps = kThreads / kWarp;
      __shared__ Number of_warp[kWarps];
      __syncthreads();  // the last result has been read
      if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = value;
      __syncthreads();
      value = of_warp[0];
      for (int i = 1; i < kWarps; ++i) value = combine(value, of_warp[i]);
    }
    return value;
  }
};

}  // namespace moe::cuda
