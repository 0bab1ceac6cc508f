// The attention of attention.h in bf16, for CPUs with matrix tiles (tile_gemm.h).
//
// Probabilities and the gradients of scores are rounded to bf16 before they are multiplied, as in
// FlashAttention; scores and all sums are in fp32.
#pragma once

#include <c10/util/BFloat16.h>

#include "worker/kernels/attention.h"

namespace moe::kernels {

void AttentionForwardTiles(const AttentionShape& shape, const c10::BFloat16* qkv,
                           c10::BFloat16* out, float* log_sum_exp);
void AttentionBackwardTiles(const AttentionShape& shape, const c10::BFloat16* dout,
                            const c10::BFloat16* qkv, const c10::BFloat16* out,
                            const float* log_sum_exp, c10::BFloat16* dqkv);

}  // namespace moe::kernels
