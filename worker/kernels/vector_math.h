// Scalar functions that the compiler can vectorise: no branches, no library calls.
#pragma once

#include <c10/util/BFloat16.h>

#include <bit>
#include <cstdint>

#include "worker/kernels/multiversion.h"

namespace moe::kernels {

MOE_ALWAYS_INLINE float ToFloat(float value) { return value; }
MOE_ALWAYS_INLINE float ToFloat(c10::BFloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.x) << 16);
}

template <typename T>
T FromFloat(float value) = delete;
template <>
MOE_ALWAYS_INLINE float FromFloat<float>(float value) {
  return value;
}
// Round to nearest, ties to even; NaN stays NaN.
template <>
MOE_ALWAYS_INLINE c10::BFloat16 FromFloat<c10::BFloat16>(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
  const uint32_t chosen = value != value ? 0x7fc00000u : rounded;
  return c10::BFloat16(static_cast<uint16_t>(chosen >> 16), c10::BFloat16::from_bits());
}

// e^x within 2 ulp on [-87, 88], clamped outside; NaN stays NaN. Cephes' polynomial.
MOE_ALWAYS_INLINE float Exp(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float n = __builtin_floorf(x * 1.44269504f + 0.5f);
  float r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

MOE_ALWAYS_INLINE float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }

}  // namespace moe::kernels
