// Many rows against a few vectors, as clustering needs it: BLAS is made for shapes with no short
// side and is up to twice as slow here.
//
// n rows, m vectors, d columns.
#pragma once

#include <cstdint>

namespace moe::kernels {

// products_nm[i, j] = rows_nd[i] . vectors_md[j], summed in fp32 in an order that d alone decides:
// the same bits whatever n, m and the number of threads. Best where the vectors fit into the
// second-level cache.
void RowProducts(const float* rows_nd, int64_t n, const float* vectors_md, int64_t m, int64_t d,
                 float* products_nm);

// In fp64, by the calling thread alone.
double SquaredLength(const float* row, int64_t d);
double SquaredLength(const double* row, int64_t d);
double SquaredDistance(const float* a, const float* b, int64_t d);
// sum += row, or -= where `sign` is -1.
void AddRow(const float* row, int64_t d, double sign, double* sum);
// row -= factor * step, in fp32; returns the row's squared length.
float SubtractRow(const float* step, int64_t d, float factor, float* row);

}  // namespace moe::kernels
