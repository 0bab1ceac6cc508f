// Matrix products on raw memory: the one door to LibTorch's BLAS.
//
// fp32 goes to sgemm. bf16 goes to tiles (tile_gemm.h) where the CPU has AMX, and to at::mm
// (oneDNN) where it has AVX512-BF16; elsewhere ATen's bf16 product is tens of times slower than
// fp32, so operands are widened and go to sgemm: the same roundings of inputs and outputs, at
// nearly fp32 speed.
#pragma once

#include <c10/util/BFloat16.h>

#include "worker/kernels/matrix.h"

namespace moe::kernels {

// c = alpha a b, or c += alpha a b. c is not transposed. Uses all threads, or the calling one alone
// inside ParallelFor. Deterministic for a given number of threads.
void Gemm(Matrix<const float> a, Matrix<const float> b, Output output, Matrix<float> c,
          float alpha = 1.0f);
// fp32 accumulation. The fp32 result is rounded to bf16 on its way by at::mm alone.
void Gemm(Matrix<const c10::BFloat16> a, Matrix<const c10::BFloat16> b, Output output,
          Matrix<float> c);
void Gemm(Matrix<const c10::BFloat16> a, Matrix<const c10::BFloat16> b, Output output,
          Matrix<c10::BFloat16> c);

// Whether the CPU has instructions that multiply bf16.
bool CpuMultipliesBf16();

}  // namespace moe::kernels
