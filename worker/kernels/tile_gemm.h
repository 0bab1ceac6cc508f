// Products of bf16 matrices with fp32 sums on a CPU's matrix tiles (AMX), or with its instructions
// for pairs of bf16 numbers (AVX512-BF16), by oneDNN's micro-kernels.
//
// at::mm compiles a program for every new shape, and an expert has another number of rows in every
// step: there it spends more time on compiling than on multiplying. Here products are made of
// blocks of few shapes, whose programs every thread compiles once; sums are added to fp32 matrices
// where they lie; and a right-hand side is brought into the order of the tiles once for many
// products.
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>

#include "worker/kernels/buffer.h"
#include "worker/kernels/matrix.h"

namespace moe::kernels {

// Whether this CPU can compute what follows.
bool CpuMultipliesBf16();
// Whether that is its fastest way: it has tiles, or AMD's instructions. Intel's without tiles take
// twice as long as products in fp32.
bool CpuPrefersBf16();

// A copy of the right-hand side of products, in the order of the tiles.
class TileMatrix {
 public:
  // Uses all threads, or the calling one alone inside ParallelFor.
  void Pack(const Matrix<const c10::BFloat16>& matrix);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  // Columns 64 i to 64 i + 63, rows two by two, zeros where there are no more; from `row` on, which
  // is even.
  const c10::BFloat16* Panel(int64_t i, int64_t row) const;

 private:
  int64_t rows_ = 0, cols_ = 0, padded_rows_ = 0;
  Buffer<c10::BFloat16> panels_;
};

// c = a b, or c += a b, of the first a.cols rows and c.cols columns of b. Uses all threads, or the
// calling one alone inside ParallelFor; an element of c does not depend on their number.
void TileGemm(const Matrix<const c10::BFloat16>& a, const TileMatrix& b, Output output,
              const Matrix<float>& c);
// c = a b, rounded once.
void TileGemm(const Matrix<const c10::BFloat16>& a, const TileMatrix& b,
              const Matrix<c10::BFloat16>& c);

}  // namespace moe::kernels
