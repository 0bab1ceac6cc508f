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

RopeTable::RopeTable(int64_t positions, const std::vector<double>& frequencies)
    : positions(positions),
      half(static_cast<int64_t>(frequencies.size())),
      cos(positions * half),
      sin(positions * half) {
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(p) * frequencies[i];
      cos[p * half + i] = static_cast<float>(std::cos(angle));
      sin[p * half + i] = static_cast<float>(std::sin(angle));
    }
  }
}

template <typename T>
void Rope(const RopeTable& table, Rotation rotation, std::span<const int32_t> positions,
          int64_t heads, T* x, int64_t stride) {
  const float sign = rotation == Rotation::kForward ? 1.0f : -1.0f;
  const int64_t rows = static_cast<int64_t>(positions.size());
  ParallelFor(rows, kMinRowsPerThread, [&, x](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t offset = positions[r] * table.half;
      RotateRow(table.cos.data() + offset, table.sin.data() + offset, sign, heads, table.half,
                x + r * stride);
    }
  });
}

template void Rope(const RopeTable&, Rotation, std::span<const int32_t>, int64_t, float*, int64_t);
template void Rope(const RopeTable&, Rotation, std::span<const int32_t>, int64_t, c10::BFloat16*,
                   int64_t);

}  // namespace moe::kernels
