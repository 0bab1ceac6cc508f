// Cross-entropy of rows of logits against one target each, with the gradient in place of the
// logits. Statistics in fp32. T is float or c10::BFloat16.
#pragma once

#include <cstdint>

namespace moe::kernels {

// loss[r] = -log softmax(logits[r])[target[r]], in nats; 0 where target[r] is negative (no target).
template <typename T>
void CrossEntropyForward(const T* logits, const int64_t* targets, int64_t rows, int64_t vocabulary,
                         float* loss);

// The same, and logits[r] becomes (softmax(logits[r]) - onehot(target[r])) * scale, or 0 where
// there is no target.
template <typename T>
void CrossEntropyBackward(T* logits, const int64_t* targets, int64_t rows, int64_t vocabulary,
                          float scale, float* loss);

}  // namespace moe::kernels
