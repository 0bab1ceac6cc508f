#include "worker/kernels/swiglu.h"

#include "worker/kernels/multiversion.h"
#include "worker/kernels/parallel.h"
#include "worker/kernels/vector_math.h"

namespace moe::kernels {
namespace {

constexpr int64_t kMinElementsPerThread = 1 << 12;

template <typename T>
MOE_MULTIVERSION void ForwardRow(const T* __restrict gate, const T* __restrict up, float scale,
                                 int64_t n, T* __restrict h) {
  for (int64_t i = 0; i < n; ++i) {
    const float g = ToFloat(gate[i]);
    h[i] = FromFloat<T>(scale * g * Sigmoid(g) * ToFloat(up[i]));
  }
}

// Returns the gradient of scale.
template <typename T>
MOE_MULTIVERSION float BackwardRow(const T* __restrict dh, const T* __restrict gate,
                                   const T* __restrict up, float scale, int64_t n,
                                   T* __restrict dgate, T* __restrict dup, T* __restrict h) {
  float dscale = 0;
#pragma omp simd reduction(+ : dscale)
  for (int64_t i = 0; i < n; ++i) {
    const float g = ToFloat(gate[i]), u = ToFloat(up[i]), d = ToFloat(dh[i]);
    const float sigmoid = Sigmoid(g), silu = g * sigmoid;
    dscale += d * silu * u;
    dup[i] = FromFloat<T>(scale * d * silu);
    dgate[i] = FromFloat<T>(scale * d * u * sigmoid * (1.0f + g * (1.0f - sigmoid)));
    h[i] = FromFloat<T>(scale * silu * u);
  }
  return dscale;
}

}  // namespace

template <typename T>
void SwiGluForward(const T* gate_up, const float* scale, int64_t rows, int64_t n, T* h) {
  ParallelFor(rows, kMinElementsPerThread / (n + 1) + 1, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* gate = gate_up + r * 2 * n;
      ForwardRow(gate, gate + n, scale == nullptr ? 1.0f : scale[r], n, h + r * n);
    }
  });
}

template <typename T>
void SwiGluBackward(const T* dh, const T* gate_up, const float* scale, int64_t rows, int64_t n,
                    T* dgate_up, float* dscale, T* h) {
  ParallelFor(rows, kMinElementsPerThread / (n + 1) + 1, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* gate = gate_up + r * 2 * n;
      T* dgate = dgate_up + r * 2 * n;
      const float gradient =
          BackwardRow(dh + r * n, gate, gate + n, scale == nullptr ? 1.0f : scale[r], n, dgate,
                      dgate + n, h + r * n);
      if (scale != nullptr) dscale[r] = gradient;
    }
  });
}

template void SwiGluForward(const float*, const float*, int64_t, int64_t, float*);
template void SwiGluForward(const c10::BFloat16*, const float*, int64_t, int64_t, c10::BFloat16*);
template void SwiGluBackward(const float*, const float*, const float*, int64_t, int64_t, float*,
                             float*, float*);
template void SwiGluBackward(const c10::BFloat16*, const c10::BFloat16*, const float*, int64_t,
                             int64_t, c10::BFloat16*, float*, c10::BFloat16*);

}  // namespace moe::kernels
