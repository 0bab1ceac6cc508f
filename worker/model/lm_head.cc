#include "worker/model/lm_head.h"

#include <c10/util/BFloat16.h>

#include <algorithm>

#include "worker/kernels/cross_entropy.h"
#include "worker/kernels/gemm.h"

namespace moe::model {
namespace {

using kernels::Gemm;
using kernels::Matrix;
using kernels::Output;

// Large enough that reading the weight and its gradient once per chunk costs little beside the
// products, small enough to be nothing beside the activations: 512 tokens of a 50k vocabulary.
constexpr int64_t kChunkElements = int64_t{25} << 20;

int64_t ChunkTokens(int64_t tokens, int64_t vocabulary) {
  return std::clamp<int64_t>(kChunkElements / vocabulary, 1, tokens);
}

template <typename Float>
Matrix<const Float> Logits(const Float* h, const Float* weight, int64_t rows, int64_t d,
                           int64_t vocabulary, kernels::Buffer<Float>& chunk) {
  Float* logits = chunk.Reserve(rows * vocabulary);
  Gemm(Matrix<const Float>(h, rows, d), Matrix<const Float>(weight, vocabulary, d).Transposed(),
       Output::kOverwrite, Matrix<Float>(logits, rows, vocabulary));
  return {logits, rows, vocabulary};
}

}  // namespace

template <typename Float>
void LmHeadLoss(const Float* h_Td, const Float* weight_Vd, const int64_t* targets_T, int64_t tokens,
                int64_t d, int64_t vocabulary, kernels::Buffer<Float>& chunk, float* losses_T) {
  const int64_t step = ChunkTokens(tokens, vocabulary);
  for (int64_t t = 0; t < tokens; t += step) {
    const int64_t rows = std::min(step, tokens - t);
    Logits(h_Td + t * d, weight_Vd, rows, d, vocabulary, chunk);
    kernels::CrossEntropyForward<Float>(chunk.data(), targets_T + t, rows, vocabulary,
                                        losses_T + t);
  }
}

template <typename Float>
void LmHeadLossBackward(const Float* h_Td, const Float* weight_Vd, const int64_t* targets_T,
                        int64_t tokens, int64_t d, int64_t vocabulary, float scale,
                        kernels::Buffer<Float>& chunk, float* losses_T, float* dh_Td,
                        float* dweight_Vd) {
  const int64_t step = ChunkTokens(tokens, vocabulary);
  for (int64_t t = 0; t < tokens; t += step) {
    const int64_t rows = std::min(step, tokens - t);
    const Matrix<const Float> dlogits = Logits(h_Td + t * d, weight_Vd, rows, d, vocabulary, chunk);
    kernels::CrossEntropyBackward(chunk.data(), targets_T + t, rows, vocabulary, scale,
                                  losses_T + t);
    Gemm(dlogits, Matrix<const Float>(weight_Vd, vocabulary, d), Output::kOverwrite,
         Matrix<float>(dh_Td + t * d, rows, d));
    Gemm(dlogits.Transposed(), Matrix<const Float>(h_Td + t * d, rows, d), Output::kAdd,
         Matrix<float>(dweight_Vd, vocabulary, d));
  }
}

#define MOE_INSTANTIATE(Float)                                                                    \
  template void LmHeadLoss(const Float*, const Float*, const int64_t*, int64_t, int64_t, int64_t, \
                           kernels::Buffer<Float>&, float*);                                      \
  template void LmHeadLossBackward(const Float*, const Float*, const int64_t*, int64_t, int64_t,  \
                                   int64_t, float, kernels::Buffer<Float>&, float*, float*,       \
                                   float*)
MOE_INSTANTIATE(float);
MOE_INSTANTIATE(c10::BFloat16);
#undef MOE_INSTANTIATE

}  // namespace moe::model
