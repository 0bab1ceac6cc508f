// Cross-entropy of rows of logits against one target each, a block of the vocabulary at a time: no
// row needs to be there as a whole. Statistics in fp32; by the calling thread. T is float or
// c10::BFloat16.
#pragma once

#include <cstdint>
#include <limits>

namespace moe::kernels {

// Of the logits of a row that have been added: the largest, and the sum of e^(logit - max).
struct SoftmaxSum {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;

  // -log of the probability of the one with this logit, in nats.
  float Loss(float logit) const;
};

template <typename T>
void AddLogits(const T* logits, int64_t count, SoftmaxSum& sum);

// Logits become scale * their probabilities, in a row whose logits have all been added to `sum`.
template <typename T>
void ScaledProbabilities(const SoftmaxSum& sum, float scale, int64_t count, T* logits);

// Where the target is: scale * (probability - 1).
float TargetGradient(float logit, const SoftmaxSum& sum, float scale);

}  // namespace moe::kernels
