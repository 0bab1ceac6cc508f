// Inputs for kernel tests: repeatable, without structure that could hide an index error.
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>
#include <vector>

#include "common/philox.h"

namespace moe::kernels::testing {

// Uniform in [-1, 1).
inline std::vector<float> Random(int64_t count, uint32_t substream) {
  PhiloxGenerator generator(/*seed=*/1, RandomStream::kTest, substream);
  std::vector<float> values(count);
  for (float& value : values) value = 2 * UniformFloatOpen(generator.Next32()) - 1;
  return values;
}

inline std::vector<c10::BFloat16> ToBf16(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

inline std::vector<float> ToFp32(const std::vector<c10::BFloat16>& values) {
  return {values.begin(), values.end()};
}

}  // namespace moe::kernels::testing
