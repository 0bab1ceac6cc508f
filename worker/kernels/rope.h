// Rotary position embedding, half-rotation form: (a, b) -> (a cos - b sin, b cos + a sin) on the
// two halves of a head.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace moe::kernels {

// Angles position * frequency of each pair.
struct RopeTable {
  RopeTable(int64_t positions, const std::vector<double>& frequencies);

  int64_t positions, half;
  std::vector<float> cos, sin;  // [positions, half]
};

enum class Rotation { kForward, kInverse };  // the inverse is the gradient

// Rotates the first `heads` heads of every row of x [rows, stride], in place. `positions` has one
// for each row.
template <typename T>
void Rope(const RopeTable& table, Rotation rotation, std::span<const int32_t> positions,
          int64_t heads, T* x, int64_t stride);

}  // namespace moe::kernels
