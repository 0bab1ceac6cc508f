#include "worker/kernels/row_products.h"

#include <algorithm>

#include "worker/kernels/multiversion.h"
#include "worker/kernels/parallel.h"

namespace moe::kernels {
namespace {

constexpr int64_t kBlockRows = 256;
constexpr int64_t kLanes = 8;
// 3 x 4 sums of 8 lanes are 12 of the 16 vector registers of AVX2, for 7 loads.
constexpr int64_t kTileRows = 3, kTileVectors = 4;

// `rows` x `vectors` products at `out`. Every product is added to its lane, what d leaves over as
// well, and lanes at the end: a sum of products outside of lanes would be fused in one shape of
// tile and not in another, and a row would have other bits there.
template <int64_t rows, int64_t vectors>
MOE_ALWAYS_INLINE void Tile(const float* __restrict x, const float* __restrict v, int64_t d,
                            int64_t m, float* __restrict out) {
  float sums[rows][vectors][kLanes] = {};
  int64_t j = 0;
  for (; j + kLanes <= d; j += kLanes) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < vectors; ++c) {
#pragma omp simd
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          sums[r][c][lane] += x[r * d + j + lane] * v[c * d + j + lane];
        }
      }
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < vectors; ++c) {
      for (int64_t lane = 0; lane < d - j; ++lane) {
        sums[r][c][lane] += x[r * d + j + lane] * v[c * d + j + lane];
      }
      float sum = 0;
      for (int64_t lane = 0; lane < kLanes; ++lane) sum += sums[r][c][lane];
      out[r * m + c] = sum;
    }
  }
}

template <int64_t rows>
MOE_ALWAYS_INLINE void TilesOfRows(const float* x, const float* v, int64_t m, int64_t d,
                                   float* out) {
  int64_t c = 0;
  for (; c + kTileVectors <= m; c += kTileVectors) {
    Tile<rows, kTileVectors>(x, v + c * d, d, m, out + c);
  }
  for (; c < m; ++c) Tile<rows, 1>(x, v + c * d, d, m, out + c);
}

MOE_MULTIVERSION void ProductsOfBlock(const float* x, int64_t n, const float* v, int64_t m,
                                      int64_t d, float* out) {
  int64_t i = 0;
  for (; i + kTileRows <= n; i += kTileRows)
    TilesOfRows<kTileRows>(x + i * d, v, m, d, out + i * m);
  for (; i < n; ++i) TilesOfRows<1>(x + i * d, v, m, d, out + i * m);
}

}  // namespace

void RowProducts(const float* rows_nd, int64_t n, const float* vectors_md, int64_t m, int64_t d,
                 float* products_nm) {
  const int64_t blocks = (n + kBlockRows - 1) / kBlockRows;
  ParallelTasks(blocks, [=](int64_t /*worker*/, int64_t block) {
    const int64_t first = block * kBlockRows;
    ProductsOfBlock(rows_nd + first * d, std::min(kBlockRows, n - first), vectors_md, m, d,
                    products_nm + first * m);
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

MOE_MULTIVERSION void AddRow(const float* row, int64_t d, double sign, double* __restrict sum) {
  for (int64_t i = 0; i < d; ++i) sum[i] += sign * row[i];
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
