#include "worker/model/float_codec.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cmath>
#include <cstring>

#include "common/check.h"

namespace moe::model {
namespace {

template <typename T>
void Decode(const uint8_t* bytes, int64_t count, float* values) {
  for (int64_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, bytes + 2 * i, sizeof(bits));
    values[i] = static_cast<float>(T(bits, T::from_bits()));
  }
}

template <typename T>
int64_t Encode(const float* values, int64_t count, uint8_t* bytes) {
  int64_t overflow = -1;
  for (int64_t i = 0; i < count; ++i) {
    const T narrow(values[i]);
    if (overflow < 0 && std::isfinite(values[i]) && !std::isfinite(static_cast<float>(narrow))) {
      overflow = i;
    }
    std::memcpy(bytes + 2 * i, &narrow.x, sizeof(narrow.x));
  }
  return overflow;
}

}  // namespace

bool IsFloat(artefacts::DType dtype) {
  return dtype == artefacts::DType::kF32 || dtype == artefacts::DType::kF16 ||
         dtype == artefacts::DType::kBf16;
}

void DecodeFloats(artefacts::DType dtype, const uint8_t* bytes, int64_t count, float* values) {
  MOE_CHECK(IsFloat(dtype));
  if (dtype == artefacts::DType::kF32) {
    std::memcpy(values, bytes, static_cast<size_t>(count) * sizeof(float));
  } else if (dtype == artefacts::DType::kBf16) {
    Decode<c10::BFloat16>(bytes, count, values);
  } else {
    Decode<c10::Half>(bytes, count, values);
  }
}

int64_t EncodeFloats(artefacts::DType dtype, const float* values, int64_t count, uint8_t* bytes) {
  MOE_CHECK(IsFloat(dtype));
  if (dtype == artefacts::DType::kF32) {
    std::memcpy(bytes, values, static_cast<size_t>(count) * sizeof(float));
    return -1;
  }
  return dtype == artefacts::DType::kBf16 ? Encode<c10::BFloat16>(values, count, bytes)
                                          : Encode<c10::Half>(values, count, bytes);
}

}  // namespace moe::model
