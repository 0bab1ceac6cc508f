#include "worker/kernels/cross_entropy.h"

#include <cmath>
#include <limits>

#include "worker/kernels/multiversion.h"
#include "worker/kernels/parallel.h"
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
MOE_MULTIVERSION void ScaledSoftmax(T* __restrict x, float shift, float scale, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = FromFloat<T>(Exp(ToFloat(x[i]) - shift) * scale);
}

template <typename T>
MOE_MULTIVERSION void Zero(T* __restrict x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = FromFloat<T>(0.0f);
}

}  // namespace

template <typename T>
void CrossEntropyForward(const T* logits, const int64_t* targets, int64_t rows, int64_t vocabulary,
                         float* loss) {
  ParallelFor(rows, 1, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      loss[r] = 0;
      if (targets[r] < 0) continue;
      const T* row = logits + r * vocabulary;
      const float max = Max(row, vocabulary);
      loss[r] = std::log(SumOfExp(row, max, vocabulary)) + (max - ToFloat(row[targets[r]]));
    }
  });
}

template <typename T>
void CrossEntropyBackward(T* logits, const int64_t* targets, int64_t rows, int64_t vocabulary,
                          float scale, float* loss) {
  ParallelFor(rows, 1, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      T* row = logits + r * vocabulary;
      loss[r] = 0;
      if (targets[r] < 0) {
        Zero(row, vocabulary);
        continue;
      }
      const float max = Max(row, vocabulary);
      const float sum = SumOfExp(row, max, vocabulary);
      const float target_logit = ToFloat(row[targets[r]]);
      loss[r] = std::log(sum) + (max - target_logit);
      ScaledSoftmax(row, max, scale / sum, vocabulary);
      row[targets[r]] = FromFloat<T>((Exp(target_logit - max) / sum - 1.0f) * scale);
    }
  });
}

template void CrossEntropyForward(const float*, const int64_t*, int64_t, int64_t, float*);
template void CrossEntropyForward(const c10::BFloat16*, const int64_t*, int64_t, int64_t, float*);
template void CrossEntropyBackward(float*, const int64_t*, int64_t, int64_t, float, float*);
template void CrossEntropyBackward(c10::BFloat16*, const int64_t*, int64_t, int64_t, float, float*);

}  // namespace moe::kernels
