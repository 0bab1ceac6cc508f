// AdamW over flat fp32 arenas (worker/training/adamw.h has the formulas), and the gradients' norm.
#pragma once

#include "worker/kernels/device/row_kernel.h"

namespace moe::kernels::device {

struct AdamWCoefficients {
  float decay;  // 1 - lr wd
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float step_size;              // lr / (1 - beta1^t)
  float sqrt_bias_correction2;  // sqrt(1 - beta2^t)
  float epsilon;
  float gradient_scale;
};

// One element: p, and its moments m and v, by the gradient g.
MOE_HOST_DEVICE inline void AdamWElement(const AdamWCoefficients& c, float g, float& p, float& m,
                                         float& v) {
  const float gradient = g * c.gradient_scale;
  m = c.beta1 * m + c.one_minus_beta1 * gradient;
  v = c.beta2 * v + c.one_minus_beta2 * gradient * gradient;
  const float denominator = sqrtf(v) / c.sqrt_bias_correction2 + c.epsilon;
  p = p * c.decay - c.step_size * (m / denominator);
}

// Updates `numel` elements of all four; gradients become zero.
struct AdamW {
  static constexpr int kThreads = 256;
  static constexpr int64_t kElementsPerPart = 4096;
  int64_t rows;  // the parts
  int64_t numel;
  AdamWCoefficients coefficients;
  float *parameters, *gradients, *exp_avg, *exp_avg_sq;  // [numel]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t part, const Team& team) const {
    const int64_t begin = part * kElementsPerPart;
    const int64_t count = begin + kElementsPerPart < numel ? kElementsPerPart : numel - begin;
    ForColumns(team, count, [&](auto lanes, int64_t c) {
      constexpr int kLanes = decltype(lanes)::value;
      const int64_t at = begin + c;
      const auto g = Load<kLanes>(gradients + at);
      auto p = Load<kLanes>(parameters + at), m = Load<kLanes>(exp_avg + at),
           v = Load<kLanes>(exp_avg_sq + at);
      for (int i = 0; i < kLanes; ++i) {
        AdamWElement(coefficients, g.at[i], p.at[i], m.at[i], v.at[i]);
      }
      Store(p, parameters + at);
      Store(m, exp_avg + at);
      Store(v, exp_avg_sq + at);
      Store(Floats<kLanes>{}, gradients + at);
    });
  }
};

// The sums of squares of parts of `values`, in fp64.
struct SumSquares {
  static constexpr int kThreads = 256;
  static constexpr int64_t kElementsPerPart = 1 << 16;
  int64_t rows;  // the parts
  int64_t numel;
  const float* values;  // [numel]
  double* sums;         // [parts]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t part, const Team& team) const {
    const int64_t begin = part * kElementsPerPart;
    const int64_t count = begin + kElementsPerPart < numel ? kElementsPerPart : numel - begin;
    double sum = 0;
    ForColumns(team, count, [&](auto lanes, int64_t c) {
      const auto pack = Load<decltype(lanes)::value>(values + begin + c);
      for (const float value : pack.at) sum += static_cast<double>(value) * value;
    });
    sum = team.Sum(sum);
    if (team.rank() == 0) sums[part] = sum;
  }
};

}  // namespace moe::kernels::device
