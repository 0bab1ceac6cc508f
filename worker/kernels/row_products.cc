#include "worker/kernels/row_products.h"

#include <algorithm>
#include <cstring>

#include "worker/kernels/buffer.h"
#include "worker/kernels/multiversion.h"
#include "worker/kernels/parallel.h"

namespace moe::kernels {
namespace {

constexpr int64_t kBlockRows = 256;
// A tile's rows are brought together, so many columns at a time: in their places, where d is a
// power of two, they would push one another out of the first-level cache. The sums of a piece are
// added to those of the pieces before, which also keeps rounding small.
constexpr int64_t kPieceColumns = 128;

// Vectors lie side by side in panels of `width`, zeros where there are no more: a row has one sum
// for each in a register, so that there are no lanes to add up.
template <int64_t width>
struct Panel {
  typedef float Column __attribute__((vector_size(width * sizeof(float))));
};
constexpr int64_t kWide = 16, kNarrow = 8;

struct Problem {
  const float* panels;  // [m / width rounded up, d, width]
  int64_t m, d;
};

// Rows [d] each at `x`, times all vectors, to `out` [m] each.
template <int64_t rows, int64_t width>
MOE_ALWAYS_INLINE void Tile(const Problem& problem, const float* x, float* out) {
  using Column = typename Panel<width>::Column;
  const int64_t d = problem.d, m = problem.m;
  for (int64_t c = 0; c < m; c += width) {
    const auto* panel = reinterpret_cast<const Column*>(problem.panels + c * d);
    Column totals[rows] = {};
    alignas(64) float piece[rows][kPieceColumns];
    for (int64_t first = 0; first < d; first += kPieceColumns) {
      const int64_t columns = std::min(kPieceColumns, d - first);
      for (int64_t r = 0; r < rows; ++r) {
        std::memcpy(piece[r], x + r * d + first, static_cast<size_t>(columns) * sizeof(float));
      }
      Column sums[rows] = {};
      for (int64_t j = 0; j < columns; ++j) {
        const Column column = panel[first + j];
        for (int64_t r = 0; r < rows; ++r) sums[r] += piece[r][j] * column;
      }
      for (int64_t r = 0; r < rows; ++r) totals[r] += sums[r];
    }
    const auto bytes = static_cast<size_t>(std::min(width, m - c)) * sizeof(float);
    for (int64_t r = 0; r < rows; ++r) std::memcpy(out + r * m + c, &totals[r], bytes);
  }
}

template <int64_t tile_rows, int64_t width>
MOE_ALWAYS_INLINE void Tiles(const Problem& problem, const float* x, int64_t n, float* out) {
  const int64_t d = problem.d, m = problem.m;
  int64_t i = 0;
  for (; i + tile_rows <= n; i += tile_rows) {
    Tile<tile_rows, width>(problem, x + i * d, out + i * m);
  }
  for (; i < n; ++i) Tile<1, width>(problem, x + i * d, out + i * m);
}

// Sums, a column and what it is multiplied with are to fit into the registers: 32 of 16 lanes in
// AVX-512, 16 of 8 in AVX2, 16 of 4 in any x86-64.
#if defined(__x86_64__)
template <int64_t width>
__attribute__((target("avx512f,avx512vl,avx512dq,avx2,fma"))) void TilesOfAvx512(
    const Problem& problem, const float* x, int64_t n, float* out) {
  Tiles<12, width>(problem, x, n, out);
}
template <int64_t width>
__attribute__((target("avx2,fma"))) void TilesOfAvx2(const Problem& problem, const float* x,
                                                     int64_t n, float* out) {
  Tiles<96 / width, width>(problem, x, n, out);
}
#endif

template <int64_t width>
void ProductsOfBlock(const Problem& problem, const float* x, int64_t n, float* out) {
#if defined(__x86_64__)
  static const bool has_avx512 =
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  static const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_avx512) return TilesOfAvx512<width>(problem, x, n, out);
  if (has_avx2) return TilesOfAvx2<width>(problem, x, n, out);
#endif
  Tiles<48 / width, width>(problem, x, n, out);
}

void FillPanels(const float* vectors_md, int64_t m, int64_t d, int64_t width, float* panels) {
  for (int64_t first = 0; first < m; first += width, panels += d * width) {
    for (int64_t c = 0; c < width; ++c) {
      for (int64_t j = 0; j < d; ++j) {
        panels[j * width + c] = first + c < m ? vectors_md[(first + c) * d + j] : 0.0f;
      }
    }
  }
}

}  // namespace

void RowProducts(const float* rows_nd, int64_t n, const float* vectors_md, int64_t m, int64_t d,
                 float* products_nm) {
  const int64_t width = m > kNarrow ? kWide : kNarrow;
  Buffer<float> panels;
  const Problem problem = {
      .panels = panels.Reserve((m + width - 1) / width * width * d), .m = m, .d = d};
  FillPanels(vectors_md, m, d, width, panels.data());
  const int64_t blocks = (n + kBlockRows - 1) / kBlockRows;
  ParallelTasks(blocks, [=](int64_t /*worker*/, int64_t block) {
    const int64_t first = block * kBlockRows;
    const auto products = width == kWide ? ProductsOfBlock<kWide> : ProductsOfBlock<kNarrow>;
    products(problem, rows_nd + first * d, std::min(kBlockRows, n - first),
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
