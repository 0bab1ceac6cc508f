// Matrix products on raw memory: the one door to LibTorch's BLAS.
//
// fp32 goes to sgemm. bf16 goes to tiles (tile_gemm.h) where they are the CPU's fastest way;
// elsewhere operands are widened and go to sgemm: the same roundings of inputs and outputs, at
// nearly fp32 speed. ATen's own bf16 product is up to tens of times slower there.
#pragma once

#include <c10/util/BFloat16.h>

#include "worker/kernels/buffer.h"
#include "worker/kernels/matrix.h"
#include "worker/kernels/tile_gemm.h"

namespace moe::kernels {

// The right-hand side of many products, brought into the form that this CPU multiplies: as it is,
// in the order of tiles, or widened.
template <typename T>
class RightSide {
 public:
  // `matrix` has to stay while products are made. Uses all threads, or the calling one alone inside
  // ParallelFor.
  void Prepare(const Matrix<const T>& matrix);

  const Matrix<const T>& plain() const { return plain_; }
  const TileMatrix& tiles() const { return tiles_; }         // where CpuPrefersBf16
  const Matrix<const float>& wide() const { return wide_; }  // where not CpuMultipliesBf16

 private:
  Matrix<const T> plain_{nullptr, 0, 0};
  TileMatrix tiles_;
  Buffer<float> wide_room_;
  Matrix<const float> wide_{nullptr, 0, 0};
};

// c = alpha a b, or c += alpha a b. c is not transposed. Uses all threads, or the calling one alone
// inside ParallelFor. Deterministic for a given number of threads.
void Gemm(Matrix<const float> a, Matrix<const float> b, Output output, Matrix<float> c,
          float alpha = 1.0f);
void Gemm(Matrix<const float> a, const RightSide<float>& b, Output output, Matrix<float> c);
// fp32 accumulation, rounded once where the result is bf16.
void Gemm(Matrix<const c10::BFloat16> a, Matrix<const c10::BFloat16> b, Output output,
          Matrix<float> c);
void Gemm(Matrix<const c10::BFloat16> a, const RightSide<c10::BFloat16>& b, Output output,
          Matrix<float> c);
// c = a b; kAdd is refused.
void Gemm(Matrix<const c10::BFloat16> a, Matrix<const c10::BFloat16> b, Output output,
          Matrix<c10::BFloat16> c);
void Gemm(Matrix<const c10::BFloat16> a, const RightSide<c10::BFloat16>& b, Output output,
          Matrix<c10::BFloat16> c);

}  // namespace moe::kernels
