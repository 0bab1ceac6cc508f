// h = scale * silu(gate) * up, row by row, as in worker/kernels/swiglu.h.
#pragma once

#include "worker/kernels/device/row_kernel.h"

namespace moe::kernels::device {

struct SwigluForward {
  static constexpr int kThreads = 32;
  int64_t rows;
  ElementType type;
  int64_t n;
  const void* gate_up;  // [rows, 2 n]
  const float* scale;   // [rows], or null for 1
  void* h;              // [rows, n]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t row, const Team& team) const {
    const T* gates = static_cast<const T*>(gate_up) + row * 2 * n;
    const float factor = scale == nullptr ? 1.0f : scale[row];
    ForColumns(team, n, [&](auto lanes, int64_t c) {
      constexpr int kLanes = decltype(lanes)::value;
      const auto gate = Load<kLanes>(gates + c), up = Load<kLanes>(gates + n + c);
      Floats<kLanes> out;
      for (int i = 0; i < kLanes; ++i) {
        out.at[i] = factor * gate.at[i] / (1.0f + expf(-gate.at[i])) * up.at[i];
      }
      Store(out, static_cast<T*>(h) + row * n + c);
    });
  }
};

// From dh: dgate_up, the gradient of the scale where there is one, and h again.
struct SwigluBackward {
  static constexpr int kThreads = 32;
  int64_t rows;
  ElementType type;
  int64_t n;
  const void* dh;       // [rows, n]
  const void* gate_up;  // [rows, 2 n]
  const float* scale;   // [rows], or null for 1
  void* dgate_up;       // [rows, 2 n]
  float* dscale;        // [rows]; null without a scale
  void* h;              // [rows, n]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t row, const Team& team) const {
    const T* gates = static_cast<const T*>(gate_up) + row * 2 * n;
    T* dgates = static_cast<T*>(dgate_up) + row * 2 * n;
    const float factor = scale == nullptr ? 1.0f : scale[row];
    float by_scale = 0;
    ForColumns(team, n, [&](auto lanes, int64_t c) {
      constexpr int kLanes = decltype(lanes)::value;
      const auto gate = Load<kLanes>(gates + c), up = Load<kLanes>(gates + n + c),
                 d = Load<kLanes>(static_cast<const T*>(dh) + row * n + c);
      Floats<kLanes> dgate, dup, out;
      for (int i = 0; i < kLanes; ++i) {
        const float sigmoid = 1.0f / (1.0f + expf(-gate.at[i])), silu = gate.at[i] * sigmoid;
        by_scale += d.at[i] * silu * up.at[i];
        dup.at[i] = factor * d.at[i] * silu;
        // d silu(g) / d g = s (1 + g (1 - s)) with s = sigmoid(g).
        dgate.at[i] =
            factor * d.at[i] * up.at[i] * sigmoid * (1.0f + gate.at[i] * (1.0f - sigmoid));
        out.at[i] = factor * silu * up.at[i];
      }
      Store(dgate, dgates + c);
      Store(dup, dgates + n + c);
      Store(out, static_cast<T*>(h) + row * n + c);
    });
    if (dscale == nullptr) return;
    by_scale = team.Sum(by_scale);
    if (team.rank() == 0) dscale[row] = by_scale;
  }
};

}  // namespace moe::kernels::device
