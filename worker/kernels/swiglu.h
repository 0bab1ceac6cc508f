// h = scale * silu(gate) * up, row by row. The scale is an expert's weight for a token: applied
// here, before the down projection, it needs no pass of its own and its gradient is a dot product
// over the small width n. T is float or c10::BFloat16.
#pragma once

#include <cstdint>

namespace moe::kernels {

// gate_up [rows, 2 n] (gate, then up), scale [rows] or null for 1, h [rows, n].
template <typename T>
void SwiGluForward(const T* gate_up, const float* scale, int64_t rows, int64_t n, T* h);

// From dh, the gradient of h: dgate_up [rows, 2 n], dscale [rows] (where scale is not null), and h
// again. Results overwrite.
template <typename T>
void SwiGluBackward(const T* dh, const T* gate_up, const float* scale, int64_t rows, int64_t n,
                    T* dgate_up, float* dscale, T* h);

}  // namespace moe::kernels
