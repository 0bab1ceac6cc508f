#include "worker/kernels/tile_layout.h"

#include <immintrin.h>

#include <algorithm>

#define MOE_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))

namespace moe::kernels {
namespace {

constexpr int64_t kBlock = 16;  // pairs in a vector register

using Block = __m512i[kBlock];

MOE_AVX512 inline __mmask16 First(int64_t count) {
  return static_cast<__mmask16>((uint32_t{1} << std::clamp<int64_t>(count, 0, kBlock)) - 1);
}

// The pairs of rows r and r + 1, of which only `rows` are there, from 16 columns on.
MOE_AVX512 inline __m512i LoadPairs(const c10::BFloat16* from, int64_t stride, int64_t rows,
                                    __mmask16 columns) {
  if (rows <= 0) return _mm512_setzero_si512();
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(columns, from));
  if (rows == 1) return low;
  const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(columns, from + stride));
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

MOE_AVX512 inline void Transpose(Block& r) {
  Block t;
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  // Of each four rows, in each quarter of a register: columns j, 4 + j, 8 + j and 12 + j.
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  constexpr int kEven = 0x88, kOdd = 0xdd;  // quarters 0 and 2 of both, or 1 and 3
  for (int j = 0; j < 4; ++j) {
    t[j] = _mm512_shuffle_i32x4(r[j], r[4 + j], kEven);
    t[4 + j] = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], kEven);
    t[8 + j] = _mm512_shuffle_i32x4(r[j], r[4 + j], kOdd);
    t[12 + j] = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], kOdd);
  }
  for (int j = 0; j < 4; ++j) {
    r[j] = _mm512_shuffle_i32x4(t[j], t[4 + j], kEven);
    r[4 + j] = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], kEven);
    r[8 + j] = _mm512_shuffle_i32x4(t[j], t[4 + j], kOdd);
    r[12 + j] = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], kOdd);
  }
}

}  // namespace

MOE_AVX512 void PackPairs(const c10::BFloat16* from, int64_t stride, int64_t rows, int64_t cols,
                          int64_t pairs, int64_t width, c10::BFloat16* to) {
  for (int64_t p = 0; p < pairs; ++p) {
    for (int64_t c = 0; c < width; c += kBlock) {
      const __m512i values =
          LoadPairs(from + 2 * p * stride + c, stride, rows - 2 * p, First(cols - c));
      _mm512_mask_storeu_epi32(to + 2 * (p * width + c), First(width - c), values);
    }
  }
}

MOE_AVX512 void PackPairsTransposed(const c10::BFloat16* from, int64_t stride, int64_t rows,
                                    int64_t cols, int64_t pairs, int64_t width, c10::BFloat16* to) {
  for (int64_t p = 0; p < pairs; p += kBlock) {
    // 32 numbers of a row are 16 pairs.
    const int64_t numbers = std::clamp<int64_t>(rows - 2 * p, 0, 2 * kBlock);
    const auto present = static_cast<__mmask32>((uint64_t{1} << numbers) - 1);
    for (int64_t c = 0; c < width; c += kBlock) {
      Block block;
      for (int64_t i = 0; i < kBlock; ++i) {
        block[i] = c + i < cols ? _mm512_maskz_loadu_epi16(present, from + (c + i) * stride + 2 * p)
                                : _mm512_setzero_si512();
      }
      Transpose(block);
      const int64_t count = std::min(kBlock, pairs - p);
      for (int64_t i = 0; i < count; ++i) {
        _mm512_mask_storeu_epi32(to + 2 * ((p + i) * width + c), First(width - c), block[i]);
      }
    }
  }
}

MOE_AVX512 void TransposeRows(const c10::BFloat16* from, int64_t stride, int64_t rows, int64_t cols,
                              int64_t padded_rows, c10::BFloat16* to, int64_t to_stride) {
  for (int64_t c = 0; c < cols; c += kBlock) {
    for (int64_t r = 0; r < padded_rows; r += 2 * kBlock) {
      Block block;
      for (int64_t i = 0; i < kBlock; ++i) {
        const int64_t row = r + 2 * i;
        block[i] = LoadPairs(from + row * stride + c, stride, rows - row, First(cols - c));
      }
      Transpose(block);
      const int64_t count = std::min(kBlock, cols - c);
      const __mmask16 pairs = First((padded_rows - r) / 2);
      for (int64_t i = 0; i < count; ++i) {
        _mm512_mask_storeu_epi32(to + (c + i) * to_stride + r, pairs, block[i]);
      }
    }
  }
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) void RoundRows(
    const float* from, int64_t from_stride, int64_t rows, int64_t cols, c10::BFloat16* to,
    int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; c += kBlock) {
      const __mmask16 present = First(cols - c);
      const __m512 values = _mm512_maskz_loadu_ps(present, from + r * from_stride + c);
      const auto rounded = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values));
      _mm256_mask_storeu_epi16(to + r * to_stride + c, present, rounded);
    }
  }
}

}  // namespace moe::kernels
