// The switch gate of each token, on logits that are there (worker/model/switch_gate.h has the
// formulas). T tokens, N experts.
#pragma once

#include "worker/kernels/device/row_kernel.h"

namespace moe::kernels::device {

// The value of a Gumbel(0, 1) draw that is as probable as the standard normal one.
MOE_HOST_DEVICE inline float GumbelOf(float normal) {
  // P(X > normal), without the rounding of 1 - P where that is small.
  const double above = 0.5 * erfc(normal * 0.70710678118654752);
  const double rate = -log1p(-above);
  return static_cast<float>(-log(rate > 1e-30 ? rate : 1e-30));  // the logarithm of 0 is no draw
}

struct SwitchForward {
  static constexpr int kThreads = 1;
  int64_t rows;  // T
  int32_t num_experts;
  const float* logits;   // [T, N]
  const float* noise;    // [T, N] standard normal draws, or null for a pass without noise
  int32_t* order;        // [T], the expert
  float* scores;         // [T], its noisy logit
  float* probabilities;  // [T, N], softmax of the logits
  float* load;           // [T, N], 1 for the expert

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t token, const Team&) const {
    const int64_t first = token * num_experts;
    int32_t best = 0;
    float best_z = -INFINITY, largest = logits[first], sum = 0;
    for (int32_t e = 0; e < num_experts; ++e) {
      const float g = logits[first + e];
      const float token_z = noise == nullptr ? g : g + GumbelOf(noise[first + e]);
      if (token_z > best_z) best = e, best_z = token_z;
      largest = g > largest ? g : largest;
    }
    for (int32_t e = 0; e < num_experts; ++e) {
      sum += probabilities[first + e] = expf(logits[first + e] - largest);
    }
    for (int32_t e = 0; e < num_experts; ++e) {
      probabilities[first + e] /= sum;
      load[first + e] = e == best ? 1.0f : 0.0f;
    }
    order[token] = best;
    scores[token] = best_z;
  }
};

struct SwitchBackward {
  static constexpr int kThreads = 1;
  int64_t rows;  // T
  int32_t num_experts;
  float balance_scale;         // the gradient by the balance loss
  const int32_t* order;        // [T], -1 where the expert had no room
  const float* probabilities;  // [T, N]
  const float* dscores;        // [T], through the experts
  const float* dimportance;    // [N], of the balance loss, by the sum of probabilities
  float* dlogits;              // [T, N]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t token, const Team&) const {
    const float* p = probabilities + token * num_experts;
    float mean = 0;
    for (int32_t e = 0; e < num_experts; ++e) mean += p[e] * dimportance[e];
    for (int32_t e = 0; e < num_experts; ++e) {
      dlogits[token * num_experts + e] =
          balance_scale * p[e] * (dimportance[e] - mean) + (e == order[token] ? dscores[token] : 0);
    }
  }
};

// weight N times the sum over experts of mean probability times share of the tokens: one row. The
// load has no gradient.
struct SwitchBalanceLoss {
  static constexpr int kThreads = 1;
  int64_t rows;  // 1
  int32_t num_experts;
  int64_t tokens;
  double weight;
  const double *importance, *load;  // [N], sums over tokens
  double* loss;                     // [1]
  float* dimportance;               // [N]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t, const Team&) const {
    const double share = 1.0 / static_cast<double>(tokens), factor = weight * num_experts;
    double sum = 0;
    for (int32_t e = 0; e < num_experts; ++e) {
      sum += share * importance[e] * share * load[e];
      dimportance[e] = static_cast<float>(factor * share * share * load[e]);
    }
    loss[0] = factor * sum;
  }
};

}  // namespace moe::kernels::device
