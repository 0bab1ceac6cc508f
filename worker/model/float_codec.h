// fp32 to and from the floating-point types of model files.
#pragma once

#include <cstdint>

#include "storage/artefacts/safetensors.h"

namespace moe::model {

// F32, F16 and BF16; the other types hold no weights.
bool IsFloat(artefacts::DType dtype);

// Reads `count` values of type `dtype` from `bytes`, which need not be aligned. Exact.
void DecodeFloats(artefacts::DType dtype, const uint8_t* bytes, int64_t count, float* values);

// Writes `count` values, rounding to nearest, ties to even. Returns the index of the first finite
// value that is infinite in `dtype` (everything is written all the same), or -1 where there is
// none.
int64_t EncodeFloats(artefacts::DType dtype, const float* values, int64_t count, uint8_t* bytes);

}  // namespace moe::model
