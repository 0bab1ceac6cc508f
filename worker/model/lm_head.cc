#include "worker/model/lm_head.h"

#include <c10/util/BFloat16.h>

#include <algorithm>

#include "worker/kernels/parallel.h"

namespace moe::model {
namespace {

using kernels::Gemm;
using kernels::Matrix;
using kernels::Output;
using kernels::SoftmaxSum;

// A thread's share at a time: with its logits and a block of the weight it fits a core's second
// cache.
constexpr int64_t kTokenBlock = 128;

struct Extent {
  int64_t begin, count;
};

// body(part) for [0, total) in order, in parts of at most `most`.
template <typename Body>
void InParts(int64_t total, int64_t most, const Body& body) {
  for (int64_t begin = 0; begin < total; begin += most) {
    body(Extent{begin, std::min(most, total - begin)});
  }
}

// body(rows) for blocks of `count` tokens, side by side. Which thread gets which block makes no
// difference to a token.
template <typename Body>
void ForEachTokenBlock(int64_t count, const Body& body) {
  kernels::ParallelTasks((count + kTokenBlock - 1) / kTokenBlock, [&](int64_t, int64_t task) {
    const int64_t begin = task * kTokenBlock;
    body(Extent{begin, std::min(kTokenBlock, count - begin)});
  });
}

// The logits of a chunk of tokens by a block of the vocabulary, to `logits` [rows, block], and what
// the losses need to know of them.
template <typename Float>
void BlockForward(const Float* h_Td, const Float* weight_Vd, const int64_t* targets_T, Extent chunk,
                  Extent block, int64_t d, LmHeadScratch<Float>& scratch, Float* logits) {
  scratch.weight.Prepare(
      Matrix<const Float>(weight_Vd + block.begin * d, block.count, d).Transposed());
  ForEachTokenBlock(chunk.count, [&](Extent rows) {
    const int64_t first = chunk.begin + rows.begin;
    Float* row = logits + rows.begin * block.count;
    Gemm(Matrix<const Float>(h_Td + first * d, rows.count, d), scratch.weight, Output::kOverwrite,
         Matrix<Float>(row, rows.count, block.count));
    for (int64_t t = first; t < first + rows.count; ++t, row += block.count) {
      kernels::AddLogits(row, block.count, scratch.sums[t]);
      const int64_t target = targets_T[t] - block.begin;
      if (target >= 0 && target < block.count) {
        scratch.target_logits[t] = static_cast<float>(row[target]);
      }
    }
  });
}

template <typename Float>
void StartLosses(int64_t tokens, LmHeadScratch<Float>& scratch) {
  scratch.sums.assign(static_cast<size_t>(tokens), {});
  scratch.target_logits.resize(static_cast<size_t>(tokens));
}

template <typename Float>
void FinishLosses(const int64_t* targets_T, Extent chunk, const LmHeadScratch<Float>& scratch,
                  float* losses_T) {
  for (int64_t t = chunk.begin; t < chunk.begin + chunk.count; ++t) {
    losses_T[t] = targets_T[t] < 0 ? 0.0f : scratch.sums[t].Loss(scratch.target_logits[t]);
  }
}

// A token's logits of a block become the gradients of scale * loss by them.
template <typename Float>
void LogitGradients(Extent block, int64_t target, const SoftmaxSum& sum, float scale,
                    Float* logits) {
  if (target < 0) {
    std::fill_n(logits, block.count, Float(0.0f));
    return;
  }
  const int64_t at = target - block.begin;
  const bool is_here = at >= 0 && at < block.count;
  const float target_logit = is_here ? static_cast<float>(logits[at]) : 0.0f;
  kernels::ScaledProbabilities(sum, scale, block.count, logits);
  if (is_here) logits[at] = static_cast<Float>(TargetGradient(target_logit, sum, scale));
}

}  // namespace

template <typename Float>
void LmHeadLoss(const Float* h_Td, const Float* weight_Vd, const int64_t* targets_T, int64_t tokens,
                int64_t d, int64_t vocabulary, LmHeadScratch<Float>& scratch, float* losses_T) {
  StartLosses(tokens, scratch);
  const Extent all = {0, tokens};
  Float* logits = scratch.logits.Reserve(tokens * std::min(kVocabularyBlock, vocabulary));
  InParts(vocabulary, kVocabularyBlock, [&](Extent block) {
    BlockForward(h_Td, weight_Vd, targets_T, all, block, d, scratch, logits);
  });
  FinishLosses(targets_T, all, scratch, losses_T);
}

template <typename Float>
void LmHeadLossBackward(const Float* h_Td, const Float* weight_Vd, const int64_t* targets_T,
                        int64_t tokens, int64_t d, int64_t vocabulary, float scale,
                        LmHeadScratch<Float>& scratch, float* losses_T, float* dh_Td,
                        float* dweight_Vd) {
  StartLosses(tokens, scratch);
  const int64_t most = std::clamp<int64_t>(kChunkLogits / vocabulary, 1, tokens);
  InParts(tokens, most, [&](Extent chunk) {
    Float* logits = scratch.logits.Reserve(chunk.count * vocabulary);
    InParts(vocabulary, kVocabularyBlock, [&](Extent block) {
      BlockForward(h_Td, weight_Vd, targets_T, chunk, block, d, scratch,
                   logits + chunk.count * block.begin);
    });
    FinishLosses(targets_T, chunk, scratch, losses_T);

    scratch.h.Prepare(Matrix<const Float>(h_Td + chunk.begin * d, chunk.count, d));
    InParts(vocabulary, kVocabularyBlock, [&](Extent block) {
      Float* dlogits = logits + chunk.count * block.begin;
      scratch.weight.Prepare(Matrix<const Float>(weight_Vd + block.begin * d, block.count, d));
      ForEachTokenBlock(chunk.count, [&](Extent rows) {
        const int64_t first = chunk.begin + rows.begin;
        Float* gradients = dlogits + rows.begin * block.count;
        for (int64_t r = 0; r < rows.count; ++r) {
          LogitGradients(block, targets_T[first + r], scratch.sums[first + r], scale,
                         gradients + r * block.count);
        }
        Gemm(Matrix<const Float>(gradients, rows.count, block.count), scratch.weight,
             block.begin == 0 ? Output::kOverwrite : Output::kAdd,
             Matrix<float>(dh_Td + first * d, rows.count, d));
      });
      Gemm(Matrix<const Float>(dlogits, chunk.count, block.count).Transposed(), scratch.h,
           Output::kAdd, Matrix<float>(dweight_Vd + block.begin * d, block.count, d));
    });
  });
}

#define MOE_INSTANTIATE(Float)                                                                    \
  template void LmHeadLoss(const Float*, const Float*, const int64_t*, int64_t, int64_t, int64_t, \
                           LmHeadScratch<Float>&, float*);                                        \
  template void LmHeadLossBackward(const Float*, const Float*, const int64_t*, int64_t, int64_t,  \
                                   int64_t, float, LmHeadScratch<Float>&, float*, float*, float*)
MOE_INSTANTIATE(float);
MOE_INSTANTIATE(c10::BFloat16);
#undef MOE_INSTANTIATE

}  // namespace moe::model
