// Brings bf16 matrices into the order of tiles, which take two numbers of a column at a time, and
// results back.
//
// In terms of pairs, 32 bits each: the pair (p, c) of a matrix is its elements (2 p, c) and
// (2 p + 1, c). For CPUs with AVX512-BF16, as all with tiles are.
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>

namespace moe::kernels {

// to[p][c] = the pair (p, c) of `from` [rows, cols], for p below pairs, c below width; both may
// reach beyond the matrix, where it is zero.
void PackPairs(const c10::BFloat16* from, int64_t stride, int64_t rows, int64_t cols, int64_t pairs,
               int64_t width, c10::BFloat16* to);

// The same of the transpose of `from` [cols, rows]: to[p][c] = elements (c, 2 p) and (c, 2 p + 1).
void PackPairsTransposed(const c10::BFloat16* from, int64_t stride, int64_t rows, int64_t cols,
                         int64_t pairs, int64_t width, c10::BFloat16* to);

// to[c][r], rows of `to_stride`, = from[r][c] of [rows, cols]; zeros for r from rows up to the even
// `padded_rows`.
void TransposeRows(const c10::BFloat16* from, int64_t stride, int64_t rows, int64_t cols,
                   int64_t padded_rows, c10::BFloat16* to, int64_t to_stride);

// to = from, to the nearest bf16, ties to even; subnormal numbers become zero.
void RoundRows(const float* from, int64_t from_stride, int64_t rows, int64_t cols,
               c10::BFloat16* to, int64_t to_stride);

}  // namespace moe::kernels
