#include "worker/kernels/row_products.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "worker/kernels/multiversion.h"
#include "worker/kernels/parallel.h"
#include "worker/kernels/vector_math.h"

namespace moe::kernels {
namespace {

// One register of AVX2. Registers are spelt out: of plain loops over two halves of a word the
// compiler makes code that is a tenth slower.
constexpr int64_t kLanes = 8;
using Floats = float __attribute__((vector_size(4 * kLanes)));
using Words = uint32_t __attribute__((vector_size(4 * kLanes)));

// Numbers of a row are read two to a word, and widened by a shift and by a mask. So of each step's
// columns the even ones are multiplied first, then the odd ones; vectors lie in this order.
constexpr int64_t kStep = 2 * kLanes;

// 3 x 4 sums are 12 of the 16 vector registers of AVX2.
constexpr int64_t kTileRows = 3, kTileVectors = 4;
constexpr int64_t kBlockRows = 80 * kTileRows;

int64_t Padded(int64_t d) { return (d + kStep - 1) / kStep * kStep; }

// The columns in the order of the products; zeros behind the last.
MOE_MULTIVERSION void EvenColumnsFirst(const float* __restrict vector, int64_t d,
                                       float* __restrict to) {
  int64_t j = 0;
  for (; j + kStep <= d; j += kStep) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      to[j + lane] = vector[j + 2 * lane];
      to[j + kLanes + lane] = vector[j + 2 * lane + 1];
    }
  }
  if (j == d) return;
  std::fill(to + j, to + j + kStep, 0.0f);
  for (int64_t at = 0; at < d - j; ++at) to[j + at / 2 + at % 2 * kLanes] = vector[j + at];
}

// `rows` x `vectors` products at `out`. Meanwhile a share of the rows at `next`, to which
// `next_bytes` per step belong, comes into the cache: where rows come from memory only while the
// first vectors are multiplied, memory idles for the others.
template <int64_t rows, int64_t vectors>
MOE_ALWAYS_INLINE void Tile(const c10::BFloat16* x, const float* v, int64_t stride,
                            const char* next, int64_t next_bytes, int64_t m, float* out) {
  Floats sums[rows][vectors] = {};
  for (int64_t j = 0; j < stride; j += kStep, next += next_bytes) {
    __builtin_prefetch(next);
    Floats even[rows], odd[rows];
#pragma GCC unroll 4
    for (int64_t r = 0; r < rows; ++r) {
      Words pairs;
      std::memcpy(&pairs, x + r * stride + j, sizeof(pairs));
      even[r] = reinterpret_cast<Floats>(pairs << 16);
      odd[r] = reinterpret_cast<Floats>(pairs & 0xffff0000u);
    }
#pragma GCC unroll 4
    for (int64_t c = 0; c < vectors; ++c) {
      Floats of_even, of_odd;
      std::memcpy(&of_even, v + c * stride + j, sizeof(of_even));
      std::memcpy(&of_odd, v + c * stride + j + kLanes, sizeof(of_odd));
#pragma GCC unroll 4
      for (int64_t r = 0; r < rows; ++r) sums[r][c] += even[r] * of_even;
#pragma GCC unroll 4
      for (int64_t r = 0; r < rows; ++r) sums[r][c] += odd[r] * of_odd;
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < vectors; ++c) {
      float sum = 0;
      for (int64_t lane = 0; lane < kLanes; ++lane) sum += sums[r][c][lane];
      out[r * m + c] = sum;
    }
  }
}

// `next` are as many rows, or the same ones.
template <int64_t rows>
MOE_ALWAYS_INLINE void TilesOfRows(const c10::BFloat16* x, const c10::BFloat16* next,
                                   const float* v, int64_t m, int64_t stride, float* out) {
  const int64_t tiles = m / kTileVectors + m % kTileVectors;
  const int64_t next_bytes = rows * kStep * static_cast<int64_t>(sizeof(*x)) / tiles;
  const int64_t share = next_bytes * (stride / kStep);
  const char* ahead = reinterpret_cast<const char*>(next);
  int64_t c = 0;
  for (; c + kTileVectors <= m; c += kTileVectors, ahead += share) {
    Tile<rows, kTileVectors>(x, v + c * stride, stride, ahead, next_bytes, m, out + c);
  }
  for (; c < m; ++c, ahead += share) {
    Tile<rows, 1>(x, v + c * stride, stride, ahead, next_bytes, m, out + c);
  }
}

MOE_MULTIVERSION void ProductsOfBlock(const c10::BFloat16* x, int64_t n, const float* v, int64_t m,
                                      int64_t stride, float* out) {
  int64_t i = 0;
  for (; i + kTileRows <= n; i += kTileRows) {
    const int64_t next = i + 2 * kTileRows <= n ? i + kTileRows : i;
    TilesOfRows<kTileRows>(x + i * stride, x + next * stride, v, m, stride, out + i * m);
  }
  for (; i < n; ++i) {
    TilesOfRows<1>(x + i * stride, x + i * stride, v, m, stride, out + i * m);
  }
}

MOE_MULTIVERSION double RoundRow(const float* __restrict row, const float* __restrict offset,
                                 int64_t d, c10::BFloat16* __restrict to) {
  double square = 0;
#pragma omp simd reduction(+ : square)
  for (int64_t j = 0; j < d; ++j) {
    const float value = row[j] - offset[j];
    to[j] = FromFloat<c10::BFloat16>(value);
    square += double{value} * value;
  }
  return square;
}

}  // namespace

RoundedRows::RoundedRows(int64_t n, int64_t d) : n_(n), d_(d), stride_(Padded(d)) {
  values_.Reserve(n * stride_);
}

double RoundedRows::Set(int64_t i, const float* row_d, const float* offset_d) {
  c10::BFloat16* to = values_.data() + i * stride_;
  std::fill(to + d_, to + stride_, c10::BFloat16(0.0f));
  return RoundRow(row_d, offset_d, d_, to);
}

void RoundedRows::Products(const float* vectors_md, int64_t m, float* products_nm) const {
  std::vector<float> packed(m * stride_);
  for (int64_t c = 0; c < m; ++c) {
    EvenColumnsFirst(vectors_md + c * d_, d_, packed.data() + c * stride_);
  }
  ParallelTasks((n_ + kBlockRows - 1) / kBlockRows, [&](int64_t /*worker*/, int64_t block) {
    const int64_t first = block * kBlockRows;
    ProductsOfBlock(values_.data() + first * stride_, std::min(kBlockRows, n_ - first),
                    packed.data(), m, stride_, products_nm + first * m);
  });
}

MOE_MULTIVERSION double SquaredLength(const float* row, int64_t d) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < d; ++i) sum += double{row[i]} * row[i];
  return sum;
}

MOE_MULTIVERSION double SquaredLength(const double* row, int64_t d) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < d; ++i) sum += row[i] * row[i];
  return sum;
}

MOE_MULTIVERSION double SquaredDistance(const float* a, const float* b, int64_t d) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < d; ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return sum;
}

MOE_MULTIVERSION void AddToSum(const float* const* rows, int64_t count, int64_t d, double sign,
                               double* __restrict sum) {
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    const float *a = rows[i], *b = rows[i + 1], *c = rows[i + 2], *e = rows[i + 3];
    for (int64_t j = 0; j < d; ++j) {
      sum[j] += sign * ((double{a[j]} + b[j]) + (double{c[j]} + e[j]));
    }
  }
  for (; i < count; ++i) {
    for (int64_t j = 0; j < d; ++j) sum[j] += sign * rows[i][j];
  }
}

MOE_MULTIVERSION float SubtractRow(const float* __restrict step, int64_t d, float factor,
                                   float* __restrict row) {
  float square = 0;
#pragma omp simd reduction(+ : square)
  for (int64_t i = 0; i < d; ++i) {
    row[i] -= factor * step[i];
    square += row[i] * row[i];
  }
  return square;
}

}  // namespace moe::kernels
