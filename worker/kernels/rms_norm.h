// RMSNorm: y = x * rstd * weight with rstd = 1 / sqrt(mean(x^2) + eps), per row; all in fp32, y in
// T (float or c10::BFloat16).
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>

namespace moe::kernels {

// Also writes rstd, [rows].
template <typename T>
void RmsNormForward(const float* x, const float* weight, int64_t rows, int64_t d, float eps, T* y,
                    float* rstd);

// y again, from a saved rstd.
template <typename T>
void RmsNormApply(const float* x, const float* weight, const float* rstd, int64_t rows, int64_t d,
                  T* y);

// Both, with y in fp32 and rounded as well.
void RmsNormForward(const float* x, const float* weight, int64_t rows, int64_t d, float eps,
                    float* y, c10::BFloat16* rounded, float* rstd);
void RmsNormApply(const float* x, const float* weight, const float* rstd, int64_t rows, int64_t d,
                  float* y, c10::BFloat16* rounded);

// Adds to dx [rows, d] and dweight [d].
void RmsNormBackward(const float* dy, const float* x, const float* weight, const float* rstd,
                     int64_t rows, int64_t d, float* dx, float* dweight);

}  // namespace moe::kernels
