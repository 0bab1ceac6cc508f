// The last linear layer with its cross-entropy, chunk by chunk: logits of all tokens (T V numbers)
// never exist at once, and each chunk of them becomes its own gradient in place.
//
// T tokens, d hidden size, V vocabulary. Float is float or c10::BFloat16.
#pragma once

#include <cstdint>

#include "worker/kernels/buffer.h"

namespace moe::model {

// losses_T: -log p of each token's target, 0 where the target is negative (none). `chunk` is room.
template <typename Float>
void LmHeadLoss(const Float* h_Td, const Float* weight_Vd, const int64_t* targets_T, int64_t tokens,
                int64_t d, int64_t vocabulary, kernels::Buffer<Float>& chunk, float* losses_T);

// The same, with the gradient of scale * sum(losses): dh_Td is overwritten, dweight_Vd added to.
template <typename Float>
void LmHeadLossBackward(const Float* h_Td, const Float* weight_Vd, const int64_t* targets_T,
                        int64_t tokens, int64_t d, int64_t vocabulary, float scale,
                        kernels::Buffer<Float>& chunk, float* losses_T, float* dh_Td,
                        float* dweight_Vd);

}  // namespace moe::model
