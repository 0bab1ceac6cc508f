// The two ends of the model: cross-entropy of rows of logits, and the embedding's gradient.
#pragma once

#include "worker/kernels/device/row_kernel.h"

namespace moe::kernels::device {

// losses: -log p of each row's target in nats, 0 where the target is negative (none). Where a
// gradient is wanted, logits become that of scale * loss by them.
struct CrossEntropy {
  static constexpr int kThreads = 256;
  int64_t rows;
  ElementType type;
  int64_t vocabulary;
  const int64_t* targets;  // [rows]
  bool has_gradient;
  float scale;
  void* logits;   // [rows, vocabulary] of `type`
  float* losses;  // [rows]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t row, const Team& team) const {
    T* token_logits = static_cast<T*>(logits) + row * vocabulary;
    const int64_t target = targets[row];
    // Read before anybody overwrites it: the sums below wait for all.
    const float target_logit = target < 0 ? 0.0f : ToFloat32(token_logits[target]);
    float max = -INFINITY, sum = 0;
    ForColumns(team, vocabulary, [&](auto lanes, int64_t c) {
      const auto values = Load<decltype(lanes)::value>(token_logits + c);
      float largest = max;
      for (const float value : values.at) largest = value > largest ? value : largest;
      if (largest > max) sum *= expf(max - largest);
      max = largest;
      for (const float value : values.at) sum += expf(value - max);
    });
    const float row_max = team.Max(max);
    // A member without columns has no maximum.
    const float row_sum = team.Sum(sum == 0 ? 0.0f : sum * expf(max - row_max));
    if (team.rank() == 0) {
      losses[row] = target < 0 ? 0.0f : logf(row_sum) + (row_max - target_logit);
    }
    if (!has_gradient) return;
    const float factor = target < 0 ? 0.0f : scale / row_sum;
    ForColumns(team, vocabulary, [&](auto lanes, int64_t c) {
      constexpr int kLanes = decltype(lanes)::value;
      auto values = Load<kLanes>(token_logits + c);
      for (int i = 0; i < kLanes; ++i) {
        values.at[i] = target < 0 ? 0.0f : factor * expf(values.at[i] - row_max);
        if (c + i == target) {
          values.at[i] = (expf(target_logit - row_max) / row_sum - 1.0f) * scale;
        }
      }
      Store(values, token_logits + c);
    });
  }
};

// into[id of the row, :] += the sum of dx over the tokens with that id, in their order. The lists
// of tokens are made where the batch is, so that no two rows add to the same memory.
struct EmbeddingGradient {
  static constexpr int kThreads = 256;
  int64_t rows;  // different ids in the batch
  int64_t d;
  const int32_t* ids;     // [rows]
  const int32_t* ends;    // [rows], one past each id's last place in `tokens`
  const int32_t* tokens;  // [T]
  const float* dx;        // [T, d]
  float* into;            // [V, d]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t row, const Team& team) const {
    const int32_t begin = row == 0 ? 0 : ends[row - 1], end = ends[row];
    float* sum_row = into + static_cast<int64_t>(ids[row]) * d;
    ForColumns(team, d, [&](auto lanes, int64_t c) {
      constexpr int kLanes = decltype(lanes)::value;
      auto sum = Load<kLanes>(sum_row + c);
      for (int32_t i = begin; i < end; ++i) {
        const auto add = Load<kLanes>(dx + static_cast<int64_t>(tokens[i]) * d + c);
        for (int lane = 0; lane < kLanes; ++lane) sum.at[lane] += add.at[lane];
      }
      Store(sum, sum_row + c);
    });
  }
};

}  // namespace moe::kernels::device
