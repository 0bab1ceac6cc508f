// The last linear layer with its cross-entropy, a block of the vocabulary and a chunk of tokens at
// a time: the logits of all tokens (T V numbers) need not exist, a block of the weight and of its
// gradient stays in the caches until nothing more is to be done with it, and a block of logits
// becomes its own gradient in place.
//
// T tokens, d hidden size, V vocabulary. Float is float or c10::BFloat16.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/kernels/buffer.h"
#include "worker/kernels/cross_entropy.h"
#include "worker/kernels/gemm.h"

namespace moe::model {

// Columns of the logits that are worked on at a time.
inline constexpr int64_t kVocabularyBlock = 512;
// So many logits exist at a time in the backward pass: large enough that going through the weight
// and its gradient once per chunk costs little beside the products.
inline constexpr int64_t kChunkLogits = int64_t{50} << 20;

template <typename Float>
struct LmHeadScratch {
  kernels::RightSide<Float> h, weight;    // of a chunk; of a block, either way round
  kernels::Buffer<Float> logits;          // of a chunk, block by block [rows, block]
  std::vector<kernels::SoftmaxSum> sums;  // [T]
  std::vector<float> target_logits;       // [T]
};

// losses_T: -log p of each token's target, 0 where the target is negative (none).
template <typename Float>
void LmHeadLoss(const Float* h_Td, const Float* weight_Vd, const int64_t* targets_T, int64_t tokens,
                int64_t d, int64_t vocabulary, LmHeadScratch<Float>& scratch, float* losses_T);

// The same, with the gradient of scale * sum(losses): dh_Td is overwritten, dweight_Vd added to.
template <typename Float>
void LmHeadLossBackward(const Float* h_Td, const Float* weight_Vd, const int64_t* targets_T,
                        int64_t tokens, int64_t d, int64_t vocabulary, float scale,
                        LmHeadScratch<Float>& scratch, float* losses_T, float* dh_Td,
                        float* dweight_Vd);

}  // namespace moe::model
