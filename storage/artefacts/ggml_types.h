// The element types of GGUF tensors, and their conversion to fp32.
//
// A quantised row is a sequence of blocks; a block holds a fixed number of elements and the scales
// they share. The layouts are those of ggml; the conversions give the bits of its reference
// implementation (multiply, then add: never fused).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace moe::artefacts {

// Numbers as in the file format. Only those that DequantiseBlocks knows.
enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4K = 12,
  kQ6K = 14,
  kBf16 = 30,
};

struct GgmlTypeTraits {
  GgmlType type;
  const char* name;        // "Q4_1"
  int64_t block_elements;  // 1 for the types that are not quantised
  size_t block_bytes;
};

// nullptr where `type_number` is not one of GgmlType.
const GgmlTypeTraits* FindGgmlType(uint32_t type_number);
// "Q2_K (10)", also for types that we do not read; "unknown (77)".
std::string DescribeGgmlType(uint32_t type_number);
// "F32, F16, ..." for messages.
std::string SupportedGgmlTypes();

// Converts `num_blocks` blocks at `blocks` (any alignment) to num_blocks * block_elements floats.
void DequantiseBlocks(GgmlType type, const uint8_t* blocks, int64_t num_blocks, float* out);

}  // namespace moe::artefacts
