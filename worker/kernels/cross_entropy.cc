#include "worker/kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "worker/kernels/multiversion.h"
#include "worker/kernels/vector_math.h"

namespace moe::kernels {
namespace {

template <typename T>
MOE_MULTIVERSION float Max(const T* __restrict x, int64_t n) {
  float result = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : result)
  for (int64_t i = 0; i < n; ++i) {
    const float value = ToFloat(x[i]);
    result = value > result ? value : result;
  }
  return result;
}

template <typename T>
MOE_MULTIVERSION float SumOfExp(const T* __restrict x, float shift, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += Exp(ToFloat(x[i]) - shift);
  return sum;
}

template <typename T>
MOE_MULTIVERSION void ScaledExp(T* __restrict x, float shift, float scale, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = FromFloat<T>(Exp(ToFloat(x[i]) - shift) * scale);
}

}  // namespace

float SoftmaxSum::Loss(float logit) const { return std::log(sum) + (max - logit); }

template <typename T>
void AddLogits(const T* logits, int64_t count, SoftmaxSum& sum) {
  const float max = std::max(sum.max, Max(logits, count));
  sum.sum = sum.sum * Exp(sum.max - max) + SumOfExp(logits, max, count);
  sum.max = max;
}

template <typename T>
void ScaledProbabilities(const SoftmaxSum& sum, float scale, int64_t count, T* logits) {
  ScaledExp(logits, sum.max, scale / sum.sum, count);
}

float TargetGradient(float logit, const SoftmaxSum& sum, float scale) {
  return (Exp(logit - sum.max) / sum.sum - 1.0f) * scale;
}

#define MOE_INSTANTIATE(T)                                 \
  template void AddLogits(const T*, int64_t, SoftmaxSum&); \
  template void ScaledProbabilities(const SoftmaxSum&, float, int64_t, T*)
MOE_INSTANTIATE(float);
MOE_INSTANTIATE(c10::BFloat16);
#undef MOE_INSTANTIATE

}  // namespace moe::kernels
