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

// x moved into [-bound, bound]; NaN becomes one of them. The comparison is of integers: from one of
// floats GCC makes a path for each bound, folds what follows into a constant, multiplies every
// element by it in case it is needed, and where that product is too small for a normal number the
// CPU takes a hundred times as long for it.
MOE_ALWAYS_INLINE float Bounded(float x, float bound) {
  const uint32_t bits = std::bit_cast<uint32_t>(x), size = bits & 0x7fffffffu;
  const uint32_t most = std::bit_cast<uint32_t>(bound);
  return std::bit_cast<float>((bits & 0x80000000u) | (size < most ? size : most));
}

// e^x within 2 ulp on [-87, 87], the value of the end outside; NaN stays NaN. Cephes' polynomial.
MOE_ALWAYS_INLINE float Exp(float exponent) {
  const float x = Bounded(exponent, 87.0f);
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
  const float power = p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
  return exponent != exponent ? exponent : power;
}

MOE_ALWAYS_INLINE float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }

// log(1 + x) within 3 ulp on [0, 1]; NaN stays NaN. Cephes' polynomial for the logarithm of the
// rounded sum, and what rounding took from it.
MOE_ALWAYS_INLINE float Log1p(float x) {
  const float sum = 1.0f + x, lost = x - (sum - 1.0f);
  const bool is_large = sum > 1.41421356f;
  const float m = (is_large ? 0.5f * sum : sum) - 1.0f, z = m * m;
  float p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const float log_m = m + (p * m * z - 0.5f * z);
  return (is_large ? log_m + 0.693147181f : log_m) + lost / sum;
}

// log(1 + e^x)
MOE_ALWAYS_INLINE float Softplus(float x) {
  const float size = x < 0 ? -x : x;
  return (x < 0 ? 0.0f : x) + Log1p(Exp(-size));
}

// The error function within 5e-7. Eigen's rational approximation.
MOE_ALWAYS_INLINE float Erf(float x) {
  x = x < -4.0f ? -4.0f : x;
  x = x > 4.0f ? 4.0f : x;
  const float z = x * x;
  float p = -2.72614225801306e-10f;
  p = p * z + 2.77068142495902e-08f;
  p = p * z - 2.10102402082508e-06f;
  p = p * z - 5.69250639462346e-05f;
  p = p * z - 7.34990630326855e-04f;
  p = p * z - 2.95459980854025e-03f;
  p = p * z - 1.60960333262415e-02f;
  float q = -1.45660718464996e-05f;
  q = q * z - 2.13374055278905e-04f;
  q = q * z - 1.68282697438203e-03f;
  q = q * z - 7.37332916720468e-03f;
  q = q * z - 1.42647390514189e-02f;
  return x * p / q;
}

// Within 3 ulp. Cephes: a polynomial where the exponential would cancel.
MOE_ALWAYS_INLINE float Tanh(float x) {
  const float size = x < 0 ? -x : x, z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float small = p * z * x + x;
  const float large = 1.0f - 2.0f / (Exp(2.0f * size) + 1.0f);
  return size < 0.625f ? small : (x < 0 ? -large : large);
}

}  // namespace moe::kernels
