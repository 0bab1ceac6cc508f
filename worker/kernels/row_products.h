// Many rows against a few vectors, again and again, as clustering needs it: BLAS is made for shapes
// with no short side, and what costs time is that all rows come from memory once each time.
//
// n rows, m vectors, d columns.
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>

#include "worker/kernels/buffer.h"
#include "worker/kernels/tile_gemm.h"

namespace moe::kernels {

// Whether fp32 products are faster than those of the CPU's instruction for pairs of bf16, or there
// is none. AMD's makes twice as many as its fp32 instruction; Intel's half as many.
bool WidensBf16();

// Rows less an offset that they share, each number rounded to bf16: half of the bytes to read.
class RoundedRows {
 public:
  RoundedRows(int64_t n, int64_t d);

  // Row i becomes row_d - offset_d; returns its squared length before rounding. Rows can be set by
  // several threads.
  double Set(int64_t i, const float* row_d, const float* offset_d);

  // products_nm[i, j] = row i . vectors_md[j], the vectors rounded to bf16 as well, summed in fp32
  // in an order that d and the kind of CPU alone decide: the same bits whatever n, m and the number
  // of threads. Every row must be set. Best where the vectors fit into the second-level cache.
  // `widens`: numbers are made fp32 first, as they must be where the CPU cannot multiply bf16.
  void Products(const float* vectors_md, int64_t m, float* products_nm,
                bool widens = WidensBf16()) const;

 private:
  template <typename Tiles>
  void ProductsBy(const RoundedRows& vectors, float* products_nm) const;

  int64_t n_, d_;
  int64_t stride_;                // d, up to whole registers: zeros follow
  Buffer<c10::BFloat16> values_;  // [n, stride]
};

// In fp64, by the calling thread alone.
double SquaredLength(const float* row, int64_t d);
double SquaredLength(const double* row, int64_t d);
double SquaredDistance(const float* a, const float* b, int64_t d);
// sum_d += sign * the rows at `rows[0..count)`, each of d numbers.
void AddToSum(const float* const* rows, int64_t count, int64_t d, double sign, double* sum_d);
// row -= factor * step, in fp32; returns the row's squared length.
float SubtractRow(const float* step, int64_t d, float factor, float* row);

}  // namespace moe::kernels
