#include "worker/kernels/rope.h"

#include <cmath>

#include "worker/kernels/multiversion.h"
#include "worker/kernels/parallel.h"
#include "worker/kernels/vector_math.h"

namespace moe::kernels {
namespace {

constexpr int64_t kMinRowsPerThread = 16;

// sign is 1 or -1, of the angle.
template <typename T>
MOE_MULTIVERSION void RotateRow(const float* __restrict cos, const float* __restrict sin,
                                float sign, int64_t heads, int64_t half, T* __restrict x) {
  for (int64_t h = 0; h < heads; ++h) {
    T* __restrict first = x + h * 2 * half;
    T* __restrict second = first + half;
    for (int64_t i = 0; i < half; ++i) {
      const float a = ToFloat(first[i]), b = ToFloat(second[i]), s = sign * sin[i];
      first[i] = FromFloat<T>(a * cos[i] - b * s);
      second[i] = FromFloat<T>(b * cos[i] + a * s);
    }
  }
}

}  // namespace

RopeTable::RopeTable(int64_t positions, int64_t head_dim, double theta)
    : positions(positions), half(head_dim / 2), cos(positions * half), sin(positions * half) {
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(p) *
          std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
      cos[p * half + i] = static_cast<float>(std::cos(angle));
      sin[p * half + i] = static_cast<float>(std::sin(angle));
    }
  }
}

template <typename T>
void Rope(const RopeTable& table, Rotation rotation, int64_t rows, int64_t sequence_length,
          int64_t heads, T* x, int64_t stride) {
  const float sign = rotation == Rotation::kForward ? 1.0f : -1.0f;
  ParallelFor(rows, kMinRowsPerThread, [&, x](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t offset = r % sequence_length * table.half;
      RotateRow(table.cos.data() + offset, table.sin.data() + offset, sign, heads, table.half,
                x + r * stride);
    }
  });
}

template void Rope(const RopeTable&, Rotation, int64_t, int64_t, int64_t, float*, int64_t);
template void Rope(const RopeTable&, Rotation, int64_t, int64_t, int64_t, c10::BFloat16*, int64_t);

}  // namespace moe::kernels
