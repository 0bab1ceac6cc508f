// RMSNorm of rows of x [rows, d]: y = x * rstd * weight with rstd = 1 / sqrt(mean(x^2) + eps).
#pragma once

#include "worker/kernels/device/row_kernel.h"

namespace moe::kernels::device {

struct RmsNormForward {
  static constexpr int kThreads = 256;
  int64_t rows;
  ElementType type;
  int64_t d;
  float eps;
  const float* x;       // [rows, d]
  const float* weight;  // [d]
  void* y;              // [rows, d] of `type`
  float* y_fp32;        // the same before rounding, or null
  float* rstd;          // [rows], or null

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t row, const Team& team) const {
    const float* from = x + row * d;
    float squares = 0;
    ForColumns(team, d, [&](auto lanes, int64_t c) {
      const auto values = Load<decltype(lanes)::value>(from + c);
      for (const float value : values.at) squares += value * value;
    });
    const float factor = 1.0f / sqrtf(team.Sum(squares) / static_cast<float>(d) + eps);
    if (rstd != nullptr && team.rank() == 0) rstd[row] = factor;
    ForColumns(team, d, [&](auto lanes, int64_t c) {
      constexpr int kLanes = decltype(lanes)::value;
      auto values = Load<kLanes>(from + c);
      const auto weights = Load<kLanes>(weight + c);
      for (int i = 0; i < kLanes; ++i) values.at[i] *= factor * weights.at[i];
      Store(values, static_cast<T*>(y) + row * d + c);
      if (y_fp32 != nullptr) Store(values, y_fp32 + row * d + c);
    });
  }
};

// Adds the gradient by x to dx.
struct RmsNormBackward {
  static constexpr int kThreads = 256;
  int64_t rows;
  int64_t d;
  const float* dy;      // [rows, d]
  const float* x;       // [rows, d]
  const float* weight;  // [d]
  const float* rstd;    // [rows]
  float* dx;            // [rows, d]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t row, const Team& team) const {
    const float *dy_row = dy + row * d, *x_row = x + row * d;
    float dot = 0;
    ForColumns(team, d, [&](auto lanes, int64_t c) {
      constexpr int kLanes = decltype(lanes)::value;
      const auto g = Load<kLanes>(dy_row + c), w = Load<kLanes>(weight + c),
                 v = Load<kLanes>(x_row + c);
      for (int i = 0; i < kLanes; ++i) dot += g.at[i] * w.at[i] * v.at[i];
    });
    const float factor = rstd[row];
    const float along_x = team.Sum(dot) * factor * factor / static_cast<float>(d);
    ForColumns(team, d, [&](auto lanes, int64_t c) {
      constexpr int kLanes = decltype(lanes)::value;
      const auto g = Load<kLanes>(dy_row + c), w = Load<kLanes>(weight + c),
                 v = Load<kLanes>(x_row + c);
      auto sum = Load<kLanes>(dx + row * d + c);
      for (int i = 0; i < kLanes; ++i) {
        sum.at[i] += factor * (g.at[i] * w.at[i] - v.at[i] * along_x);
      }
      Store(sum, dx + row * d + c);
    });
  }
};

// The gradient by the weight, summed over kRowsPerPart rows at a time: partial [parts, d].
struct RmsNormWeightGradient {
  static constexpr int kThreads = 256;
  static constexpr int64_t kRowsPerPart = 32;
  int64_t rows;  // the parts
  int64_t d;
  int64_t num_rows;   // of x
  const float* dy;    // [num_rows, d]
  const float* x;     // [num_rows, d]
  const float* rstd;  // [num_rows]
  float* partial;     // [parts, d]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t part, const Team& team) const {
    const int64_t begin = part * kRowsPerPart;
    const int64_t end = begin + kRowsPerPart < num_rows ? begin + kRowsPerPart : num_rows;
    ForColumns(team, d, [&](auto lanes, int64_t c) {
      constexpr int kLanes = decltype(lanes)::value;
      Floats<kLanes> sum = {};
      for (int64_t r = begin; r < end; ++r) {
        const auto g = Load<kLanes>(dy + r * d + c), v = Load<kLanes>(x + r * d + c);
        for (int i = 0; i < kLanes; ++i) sum.at[i] += g.at[i] * v.at[i] * rstd[r];
      }
      Store(sum, partial + part * d + c);
    });
  }
};

}  // namespace moe::kernels::device
