// Causal attention with grouped query heads, forward and backward.
//
// B stretches of text, none of which sees another, with S_b positions each, R of them together, H
// query heads, K key/value heads, hd head size. One row of `qkv` is (H + 2 K) hd wide: the query
// heads, the key heads, the value heads, already rotated. Softmax scale 1 / sqrt(hd). Scores,
// probabilities and sums in fp32; T is float or c10::BFloat16.
//
// Blocked over (stretch, head, block of queries) so that scores stay in the cache: they are never
// kept, the backward computes them again from the saved log-sum-exp.
#pragma once

#include <cstdint>
#include <span>

namespace moe::kernels {

struct AttentionShape {
  int64_t batch = 0, sequence = 0, heads = 0, kv_heads = 0, head_dim = 0;
  // One past each stretch's last row, where they differ in length; `sequence` is then not read.
  // Empty: each has `sequence` rows.
  std::span<const int64_t> ends = {};

  int64_t begin(int64_t stretch) const {
    if (ends.empty()) return stretch * sequence;
    return stretch == 0 ? 0 : ends[static_cast<size_t>(stretch - 1)];
  }
  int64_t length(int64_t stretch) const {
    return ends.empty() ? sequence : ends[static_cast<size_t>(stretch)] - begin(stretch);
  }
  int64_t rows() const { return begin(batch); }
  int64_t qkv_width() const { return (heads + 2 * kv_heads) * head_dim; }
  int64_t out_width() const { return heads * head_dim; }
};

// out [R, H hd]; log_sum_exp, natural logarithm of the scaled scores: per stretch [H, S_b].
template <typename T>
void AttentionForward(const AttentionShape& shape, const T* qkv, T* out, float* log_sum_exp);

// dqkv [R, (H + 2 K) hd] is overwritten with the gradient of qkv.
template <typename T>
void AttentionBackward(const AttentionShape& shape, const T* dout, const T* qkv, const T* out,
                       const float* log_sum_exp, T* dqkv);

}  // namespace moe::kernels
