// Element types of tensors on a device.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace moe::kernels::device {

enum class ElementType { kFp32, kBf16 };

// bfloat16 with the bits of c10::BFloat16, free of LibTorch.
struct Bf16 {
  uint16_t bits;
};

MOE_HOST_DEVICE inline float ToFloat32(float value) { return value; }
MOE_HOST_DEVICE inline float ToFloat32(Bf16 value) {
  union {
    uint32_t bits;
    float value;
  } wide = {static_cast<uint32_t>(value.bits) << 16};
  return wide.value;
}

MOE_HOST_DEVICE inline void FromFloat32(float value, float& out) { out = value; }
// To the nearest, ties to even; a NaN stays one.
MOE_HOST_DEVICE inline void FromFloat32(float value, Bf16& out) {
  union {
    float value;
    uint32_t bits;
  } wide = {value};
  const bool is_nan = value != value;
  const uint32_t rounded = (wide.bits + 0x7fff + ((wide.bits >> 16) & 1)) >> 16;
  out.bits = is_nan ? uint16_t{0x7fc0} : static_cast<uint16_t>(rounded);
}

}  // namespace moe::kernels::device
