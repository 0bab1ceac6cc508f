// Moves blocks of rows between types. T and U are float or c10::BFloat16.
#pragma once

#include <cstdint>

namespace moe::kernels {

// to[r, c] = from[r, c]. Strides are in elements.
template <typename T, typename U>
void ConvertRows(const T* from, int64_t from_stride, int64_t rows, int64_t cols, U* to,
                 int64_t to_stride);

// to[r, c] += from[r, c]
template <typename T>
void AddRows(const T* from, int64_t from_stride, int64_t rows, int64_t cols, float* to,
             int64_t to_stride);

}  // namespace moe::kernels
