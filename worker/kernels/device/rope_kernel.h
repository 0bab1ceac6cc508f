// Rotary positions, half-rotation form: (a, b) -> (a cos - b sin, b cos + a sin) on the two halves
// of a head.
#pragma once

#include "worker/kernels/device/row_kernel.h"

namespace moe::kernels::device {

// Rotates the first `heads` heads of every row, in place.
struct RotateHeads {
  static constexpr int kThreads = 256;
  int64_t rows;
  ElementType type;
  int64_t heads, half, stride;  // half a head; elements from one row to the next
  float sign;                   // of the angle: 1, or -1 for the gradient
  const int32_t* positions;     // [rows]
  const float *cos, *sin;       // [positions, half]
  void* x;

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t row, const Team& team) const {
    T* head = static_cast<T*>(x) + row * stride;
    const float *cos_row = cos + positions[row] * half, *sin_row = sin + positions[row] * half;
    for (int64_t i = team.rank(); i < heads * half; i += team.size()) {
      const int64_t pair = i % half;
      T *first = head + i / half * 2 * half + pair, *second = first + half;
      const float a = ToFloat32(*first), b = ToFloat32(*second);
      const float c = cos_row[pair], s = sign * sin_row[pair];
      FromFloat32(a * c - b * s, *first);
      FromFloat32(b * c + a * s, *second);
    }
  }
};

}  // namespace moe::kernels::device
