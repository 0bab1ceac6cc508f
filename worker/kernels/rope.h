// Rotary position embedding, half-rotation form: (a, b) -> (a cos - b sin, b cos + a sin) on the
// two halves of a head.
#pragma once

#include <cstdint>
#include <vector>

namespace moe::kernels {

// Angles position * theta^(-2 i / head_dim) for i < head_dim / 2.
struct RopeTable {
  RopeTable(int64_t positions, int64_t head_dim, double theta);

  int64_t positions, half;
  std::vector<float> cos, sin;  // [positions, half]
};

enum class Rotation { kForward, kInverse };  // the inverse is the gradient

// Rotates the first `heads` heads of every row of x [rows, stride], in place. Row r is position
// r mod sequence_length.
template <typename T>
void Rope(const RopeTable& table, Rotation rotation, int64_t rows, int64_t sequence_length,
          int64_t heads, T* x, int64_t stride);

}  // namespace moe::kernels
