// Fused SwiGLU. Bound by memory: one pass over [T, 2 n], 128-bit loads and stores.
#include <cuda_bf16.h>

#include "worker/cuda/swiglu_launch.h"
#include "worker/cuda/swiglu_math.h"

namespace moe::cuda {
namespace {

constexpr int kThreads = 256;

__device__ inline float ToFloat(float value) { return value; }
__device__ inline float ToFloat(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ inline void FromFloat(float value, float& out) { out = value; }
__device__ inline void FromFloat(float value, __nv_bfloat16& out) { out = __float2bfloat16(value); }

// kPack elements are loaded and stored at once: 16 bytes where the width allows, else one element.
template <typename T, int kPack>
struct alignas(sizeof(T) * kPack) Pack {
  T at[kPack];
};

template <typename T, int kPack>
__global__ void Forward(const T* gate_up, T* h, int64_t num_packs, int64_t packs_per_row) {
  using P = Pack<T, kPack>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= num_packs) return;
  const int64_t row = i / packs_per_row, column = i % packs_per_row;
  const P* in = reinterpret_cast<const P*>(gate_up) + row * 2 * packs_per_row + column;
  const P gate = in[0], up = in[packs_per_row];
  P out;
#pragma unroll
  for (int k = 0; k < kPack; ++k) {
    FromFloat(Swiglu(ToFloat(gate.at[k]), ToFloat(up.at[k])), out.at[k]);
  }
  reinterpret_cast<P*>(h)[i] = out;
}

template <typename T, int kPack>
__global__ void Backward(const T* gate_up, const T* d_h, T* d_gate_up, int64_t num_packs,
                         int64_t packs_per_row) {
  using P = Pack<T, kPack>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= num_packs) return;
  const int64_t row = i / packs_per_row, column = i % packs_per_row;
  const int64_t offset = row * 2 * packs_per_row + column;
  const P* in = reinterpret_cast<const P*>(gate_up) + offset;
  const P gate = in[0], up = in[packs_per_row], d = reinterpret_cast<const P*>(d_h)[i];
  P d_gate, d_up;
#pragma unroll
  for (int k = 0; k < kPack; ++k) {
    const SwigluGradient gradient =
        SwigluBackward(ToFloat(gate.at[k]), ToFloat(up.at[k]), ToFloat(d.at[k]));
    FromFloat(gradient.gate, d_gate.at[k]);
    FromFloat(gradient.up, d_up.at[k]);
  }
  P* out = reinterpret_cast<P*>(d_gate_up) + offset;
  out[0] = d_gate;
  out[packs_per_row] = d_up;
}

int64_t Blocks(int64_t num_packs) { return (num_packs + kThreads - 1) / kThreads; }

template <typename T, int kPack>
cudaError_t ForwardOf(const void* gate_up, void* h, int64_t num_tokens, int64_t width,
                      cudaStream_t stream) {
  const int64_t num_packs = num_tokens * width / kPack;
  if (num_packs == 0) return cudaSuccess;
  Forward<T, kPack><<<static_cast<unsigned>(Blocks(num_packs)), kThreads, 0, stream>>>(
      static_cast<const T*>(gate_up), static_cast<T*>(h), num_packs, width / kPack);
  return cudaGetLastError();
}

template <typename T, int kPack>
cudaError_t BackwardOf(const void* gate_up, const void* d_h, void* d_gate_up, int64_t num_tokens,
                       int64_t width, cudaStream_t stream) {
  const int64_t num_packs = num_tokens * width / kPack;
  if (num_packs == 0) return cudaSuccess;
  Backward<T, kPack><<<static_cast<unsigned>(Blocks(num_packs)), kThreads, 0, stream>>>(
      static_cast<const T*>(gate_up), static_cast<const T*>(d_h), static_cast<T*>(d_gate_up),
      num_packs, width / kPack);
  return cudaGetLastError();
}

}  // namespace

cudaError_t LaunchSwigluForward(ElementType type, const void* gate_up, void* h, int64_t num_tokens,
                                int64_t width, cudaStream_t stream) {
  if (type == ElementType::kBf16) {
    return width % 8 == 0 ? ForwardOf<__nv_bfloat16, 8>(gate_up, h, num_tokens, width, stream)
                          : ForwardOf<__nv_bfloat16, 1>(gate_up, h, num_tokens, width, stream);
  }
  return width % 4 == 0 ? ForwardOf<float, 4>(gate_up, h, num_tokens, width, stream)
                        : ForwardOf<float, 1>(gate_up, h, num_tokens, width, stream);
}

cudaError_t LaunchSwigluBackward(ElementType type, const void* gate_up, const void* d_h,
                                 void* d_gate_up, int64_t num_tokens, int64_t width,
                                 cudaStream_t stream) {
  if (type == ElementType::kBf16) {
    return width % 8 == 0
               ? BackwardOf<__nv_bfloat16, 8>(gate_up, d_h, d_gate_up, num_tokens, width, stream)
               : BackwardOf<__nv_bfloat16, 1>(gate_up, d_h, d_gate_up, num_tokens, width, stream);
  }
  return width % 4 == 0 ? BackwardOf<float, 4>(gate_up, d_h, d_gate_up, num_tokens, width, stream)
                        : BackwardOf<float, 1>(gate_up, d_h, d_gate_up, num_tokens, width, stream);
}

}  // namespace moe::cuda
