#include "worker/kernels/convert.h"

#include "worker/kernels/multiversion.h"
#include "worker/kernels/parallel.h"
#include "worker/kernels/vector_math.h"

namespace moe::kernels {
namespace {

constexpr int64_t kMinElementsPerThread = 1 << 14;

template <typename T, typename U>
MOE_MULTIVERSION void ConvertRow(const T* __restrict from, int64_t count, U* __restrict to) {
  for (int64_t i = 0; i < count; ++i) to[i] = FromFloat<U>(ToFloat(from[i]));
}

template <typename T>
MOE_MULTIVERSION void AddRow(const T* __restrict from, int64_t count, float* __restrict to) {
  for (int64_t i = 0; i < count; ++i) to[i] += ToFloat(from[i]);
}

}  // namespace

template <typename T, typename U>
void ConvertRows(const T* from, int64_t from_stride, int64_t rows, int64_t cols, U* to,
                 int64_t to_stride) {
  ParallelFor(rows, kMinElementsPerThread / (cols + 1) + 1, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      ConvertRow(from + r * from_stride, cols, to + r * to_stride);
    }
  });
}

template <typename T>
void AddRows(const T* from, int64_t from_stride, int64_t rows, int64_t cols, float* to,
             int64_t to_stride) {
  ParallelFor(rows, kMinElementsPerThread / (cols + 1) + 1, [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) AddRow(from + r * from_stride, cols, to + r * to_stride);
  });
}

template void ConvertRows(const float*, int64_t, int64_t, int64_t, float*, int64_t);
template void ConvertRows(const float*, int64_t, int64_t, int64_t, c10::BFloat16*, int64_t);
template void ConvertRows(const c10::BFloat16*, int64_t, int64_t, int64_t, float*, int64_t);
template void AddRows(const float*, int64_t, int64_t, int64_t, float*, int64_t);
template void AddRows(const c10::BFloat16*, int64_t, int64_t, int64_t, float*, int64_t);

}  // namespace moe::kernels
