#include "worker/kernels/row_products.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cstring>
#include <vector>

#include "worker/kernels/multiversion.h"
#include "worker/kernels/parallel.h"
#include "worker/kernels/vector_math.h"

namespace moe::kernels {
namespace {

// Rows are as long as whole steps of either form: zeros follow.
constexpr int64_t kPadding = 32;
// A block of rows is a whole number of tiles in either form.
constexpr int64_t kBlockRows = 240;

int64_t Padded(int64_t d) { return (d + kPadding - 1) / kPadding * kPadding; }

// Into the second-level cache: the first is full of what is being multiplied. At most three lines,
// as long as the hardware prefetches what is left.
MOE_ALWAYS_INLINE void Prefetch(const char* data, int64_t bytes) {
  constexpr int kSecondLevel = 2;
#pragma GCC unroll 3
  for (int64_t part = 0; part < 3; ++part) {
    __builtin_prefetch(data + part * bytes / 3, /*rw=*/0, kSecondLevel);
  }
}

// Tiles for any CPU: bf16 is widened and multiplied in fp32.
struct WidenedTiles {
  using Value = float;
  static constexpr int64_t kRows = 3, kVectors = 4;  // 12 of the 16 vector registers of AVX2

  // One register of AVX2. Registers are spelt out: of plain loops over two halves of a word the
  // compiler makes code that is a tenth slower.
  static constexpr int64_t kLanes = 8, kStep = 2 * kLanes;
  using Floats = float __attribute__((vector_size(4 * kLanes)));
  using Words = uint32_t __attribute__((vector_size(4 * kLanes)));

  // Numbers of a row are read two to a word, and widened by a shift and by a mask. So of each
  // step's columns the even ones are multiplied first, then the odd ones; vectors lie in this
  // order.
  static void Pack(const c10::BFloat16* vector, int64_t stride, float* to) {
    for (int64_t j = 0; j < stride; j += kStep) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        to[j + lane] = vector[j + 2 * lane];
        to[j + kLanes + lane] = vector[j + 2 * lane + 1];
      }
    }
  }

  template <int64_t rows, int64_t vectors>
  static MOE_ALWAYS_INLINE void Multiply(const c10::BFloat16* x, const float* v, int64_t stride,
                                         const char* next, int64_t next_bytes, int64_t m,
                                         float* out) {
    Floats sums[rows][vectors] = {};
    for (int64_t j = 0; j < stride; j += kStep, next += next_bytes) {
      Prefetch(next, next_bytes);
      Floats even[rows], odd[rows];
#pragma GCC unroll 8
      for (int64_t r = 0; r < rows; ++r) {
        Words pairs;
        std::memcpy(&pairs, x + r * stride + j, sizeof(pairs));
        even[r] = reinterpret_cast<Floats>(pairs << 16);
        odd[r] = reinterpret_cast<Floats>(pairs & 0xffff0000u);
      }
#pragma GCC unroll 8
      for (int64_t c = 0; c < vectors; ++c) {
        Floats of_even, of_odd;
        std::memcpy(&of_even, v + c * stride + j, sizeof(of_even));
        std::memcpy(&of_odd, v + c * stride + j + kLanes, sizeof(of_odd));
#pragma GCC unroll 8
        for (int64_t r = 0; r < rows; ++r) sums[r][c] += even[r] * of_even;
#pragma GCC unroll 8
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
};

#if defined(__x86_64__)
// Tiles where the CPU multiplies pairs of bf16: twice as many products per instruction.
struct Bf16Tiles {
  using Value = c10::BFloat16;
  static constexpr int64_t kRows = 6, kVectors = 4;  // 24 of the 32 vector registers
  static constexpr int64_t kStep = 32;

  static void Pack(const c10::BFloat16* vector, int64_t stride, c10::BFloat16* to) {
    std::copy_n(vector, stride, to);
  }

  template <int64_t rows, int64_t vectors>
  __attribute__((target("avx512f,avx512bf16"))) static void Multiply(
      const c10::BFloat16* x, const c10::BFloat16* v, int64_t stride, const char* next,
      int64_t next_bytes, int64_t m, float* out) {
    __m512 sums[rows][vectors] = {};
    for (int64_t j = 0; j < stride; j += kStep, next += next_bytes) {
      Prefetch(next, next_bytes);
      __m512bh pairs[rows];
#pragma GCC unroll 8
      for (int64_t r = 0; r < rows; ++r) std::memcpy(&pairs[r], x + r * stride + j, 2 * kStep);
#pragma GCC unroll 8
      for (int64_t c = 0; c < vectors; ++c) {
        __m512bh of_vector;
        std::memcpy(&of_vector, v + c * stride + j, 2 * kStep);
#pragma GCC unroll 8
        for (int64_t r = 0; r < rows; ++r) {
          sums[r][c] = _mm512_dpbf16_ps(sums[r][c], pairs[r], of_vector);
        }
      }
    }
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < vectors; ++c) out[r * m + c] = _mm512_reduce_add_ps(sums[r][c]);
    }
  }
};
#endif

// Tiles::Multiply<rows, vectors> puts products at `out`, m to a row. Meanwhile a share of the rows
// at `next` (as many rows, or the same ones), `next_bytes` of them per step, comes into the cache:
// where rows come from memory only while the first vectors are multiplied, memory idles for the
// others.
template <typename Tiles, int64_t rows>
MOE_ALWAYS_INLINE void TilesOfRows(const c10::BFloat16* x, const c10::BFloat16* next,
                                   const typename Tiles::Value* v, int64_t m, int64_t stride,
                                   float* out) {
  const int64_t tiles = m / Tiles::kVectors + m % Tiles::kVectors;
  const int64_t next_bytes = rows * Tiles::kStep * static_cast<int64_t>(sizeof(*x)) / tiles;
  const int64_t share = next_bytes * (stride / Tiles::kStep);
  const char* ahead = reinterpret_cast<const char*>(next);
  int64_t c = 0;
  for (; c + Tiles::kVectors <= m; c += Tiles::kVectors, ahead += share) {
    Tiles::template Multiply<rows, Tiles::kVectors>(x, v + c * stride, stride, ahead, next_bytes, m,
                                                    out + c);
  }
  for (; c < m; ++c, ahead += share) {
    Tiles::template Multiply<rows, 1>(x, v + c * stride, stride, ahead, next_bytes, m, out + c);
  }
}

template <typename Tiles>
MOE_ALWAYS_INLINE void TilesOfBlock(const c10::BFloat16* x, int64_t n,
                                    const typename Tiles::Value* v, int64_t m, int64_t stride,
                                    float* out) {
  static_assert(kBlockRows % Tiles::kRows == 0);
  int64_t i = 0;
  for (; i + Tiles::kRows <= n; i += Tiles::kRows) {
    const int64_t next = i + 2 * Tiles::kRows <= n ? i + Tiles::kRows : i;
    TilesOfRows<Tiles, Tiles::kRows>(x + i * stride, x + next * stride, v, m, stride, out + i * m);
  }
  for (; i < n; ++i) {
    TilesOfRows<Tiles, 1>(x + i * stride, x + i * stride, v, m, stride, out + i * m);
  }
}

MOE_MULTIVERSION void ProductsOfBlock(const c10::BFloat16* x, int64_t n, const float* v, int64_t m,
                                      int64_t stride, float* out) {
  TilesOfBlock<WidenedTiles>(x, n, v, m, stride, out);
}

#if defined(__x86_64__)
void ProductsOfBlock(const c10::BFloat16* x, int64_t n, const c10::BFloat16* v, int64_t m,
                     int64_t stride, float* out) {
  TilesOfBlock<Bf16Tiles>(x, n, v, m, stride, out);
}
#endif

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

bool WidensBf16() {
#if defined(__x86_64__)
  return !CpuMultipliesBf16() || !__builtin_cpu_is("amd");
#else
  return true;
#endif
}

RoundedRows::RoundedRows(int64_t n, int64_t d) : n_(n), d_(d), stride_(Padded(d)) {
  values_.Reserve(n * stride_);
}

double RoundedRows::Set(int64_t i, const float* row_d, const float* offset_d) {
  c10::BFloat16* to = values_.data() + i * stride_;
  std::fill(to + d_, to + stride_, c10::BFloat16(0.0f));
  return RoundRow(row_d, offset_d, d_, to);
}

template <typename Tiles>
void RoundedRows::ProductsBy(const RoundedRows& vectors, float* products_nm) const {
  const int64_t m = vectors.n_;
  std::vector<typename Tiles::Value> packed(m * stride_);
  for (int64_t c = 0; c < m; ++c) {
    Tiles::Pack(vectors.values_.data() + c * stride_, stride_, packed.data() + c * stride_);
  }
  ParallelTasks((n_ + kBlockRows - 1) / kBlockRows, [&](int64_t /*worker*/, int64_t block) {
    const int64_t first = block * kBlockRows;
    ProductsOfBlock(values_.data() + first * stride_, std::min(kBlockRows, n_ - first),
                    packed.data(), m, stride_, products_nm + first * m);
  });
}

void RoundedRows::Products(const float* vectors_md, int64_t m, float* products_nm,
                           [[maybe_unused]] bool widens) const {
  const std::vector<float> no_offset(d_);
  RoundedRows vectors(m, d_);
  for (int64_t c = 0; c < m; ++c) vectors.Set(c, vectors_md + c * d_, no_offset.data());
#if defined(__x86_64__)
  if (!widens) return ProductsBy<Bf16Tiles>(vectors, products_nm);
#endif
  ProductsBy<WidenedTiles>(vectors, products_nm);
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
