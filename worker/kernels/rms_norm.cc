#include "worker/kernels/rms_norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "worker/kernels/multiversion.h"
#include "worker/kernels/parallel.h"
#include "worker/kernels/vector_math.h"

namespace moe::kernels {
namespace {

constexpr int64_t kMinRowsPerThread = 16;
// dweight is summed in this many partial sums whatever the number of threads.
constexpr int64_t kReductionBlocks = 32;

MOE_MULTIVERSION float SumOfSquares(const float* __restrict x, int64_t d) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < d; ++i) sum += x[i] * x[i];
  return sum;
}

template <typename T>
MOE_MULTIVERSION void Normalise(const float* __restrict x, const float* __restrict weight,
                                float rstd, int64_t d, T* __restrict y) {
  for (int64_t i = 0; i < d; ++i) y[i] = FromFloat<T>(x[i] * rstd * weight[i]);
}

MOE_MULTIVERSION void Round(const float* __restrict x, int64_t d, c10::BFloat16* __restrict to) {
  for (int64_t i = 0; i < d; ++i) to[i] = FromFloat<c10::BFloat16>(x[i]);
}

MOE_MULTIVERSION void BackwardRow(const float* __restrict dy, const float* __restrict x,
                                  const float* __restrict weight, float rstd, int64_t d,
                                  float* __restrict dx, float* __restrict dweight) {
  float dot = 0;  // sum of dxhat * xhat
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < d; ++i) dot += dy[i] * weight[i] * x[i];
  const float pull = dot * rstd * rstd / static_cast<float>(d);
  for (int64_t i = 0; i < d; ++i) {
    dx[i] += rstd * (dy[i] * weight[i] - x[i] * pull);
    dweight[i] += dy[i] * x[i] * rstd;
  }
}

float Rstd(const float* x, int64_t d, float eps) {
  return 1.0f / std::sqrt(SumOfSquares(x, d) / static_cast<float>(d) + eps);
}

}  // namespace

template <typename T>
void RmsNormForward(const float* x, const float* weight, int64_t rows, int64_t d, float eps, T* y,
                    float* rstd) {
  ParallelFor(rows, kMinRowsPerThread, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      rstd[r] = Rstd(x + r * d, d, eps);
      Normalise(x + r * d, weight, rstd[r], d, y + r * d);
    }
  });
}

void RmsNormForward(const float* x, const float* weight, int64_t rows, int64_t d, float eps,
                    float* y, c10::BFloat16* rounded, float* rstd) {
  ParallelFor(rows, kMinRowsPerThread, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      rstd[r] = Rstd(x + r * d, d, eps);
      Normalise(x + r * d, weight, rstd[r], d, y + r * d);
      Round(y + r * d, d, rounded + r * d);
    }
  });
}

void RmsNormApply(const float* x, const float* weight, const float* rstd, int64_t rows, int64_t d,
                  float* y, c10::BFloat16* rounded) {
  ParallelFor(rows, kMinRowsPerThread, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      Normalise(x + r * d, weight, rstd[r], d, y + r * d);
      Round(y + r * d, d, rounded + r * d);
    }
  });
}

template <typename T>
void RmsNormApply(const float* x, const float* weight, const float* rstd, int64_t rows, int64_t d,
                  T* y) {
  ParallelFor(rows, kMinRowsPerThread, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      Normalise(x + r * d, weight, rstd[r], d, y + r * d);
    }
  });
}

void RmsNormBackward(const float* dy, const float* x, const float* weight, const float* rstd,
                     int64_t rows, int64_t d, float* dx, float* dweight) {
  std::vector<float> partial(kReductionBlocks * d, 0.0f);
  ParallelFor(kReductionBlocks, 1, [&, dx](int64_t first_block, int64_t last_block) {
    for (int64_t block = first_block; block < last_block; ++block) {
      const int64_t begin = rows * block / kReductionBlocks;
      const int64_t end = rows * (block + 1) / kReductionBlocks;
      for (int64_t r = begin; r < end; ++r) {
        BackwardRow(dy + r * d, x + r * d, weight, rstd[r], d, dx + r * d,
                    partial.data() + block * d);
      }
    }
  });
  for (int64_t block = 0; block < kReductionBlocks; ++block) {
    for (int64_t i = 0; i < d; ++i) dweight[i] += partial[block * d + i];
  }
}

template void RmsNormForward(const float*, const float*, int64_t, int64_t, float, float*, float*);
template void RmsNormForward(const float*, const float*, int64_t, int64_t, float, c10::BFloat16*,
                             float*);
template void RmsNormApply(const float*, const float*, const float*, int64_t, int64_t, float*);
template void RmsNormApply(const float*, const float*, const float*, int64_t, int64_t,
                           c10::BFloat16*);

}  // namespace moe::kernels
