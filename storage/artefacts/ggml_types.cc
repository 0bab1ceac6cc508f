#include "storage/artefacts/ggml_types.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

namespace moe::artefacts {
namespace {

constexpr int kBlock = 32;        // elements of a block of the simple types
constexpr int kSuperBlock = 256;  // elements of a block of the K types

constexpr GgmlTypeTraits kTypes[] = {
    {GgmlType::kF32, "F32", 1, 4},
    {GgmlType::kF16, "F16", 1, 2},
    {GgmlType::kBf16, "BF16", 1, 2},
    {GgmlType::kQ8_0, "Q8_0", kBlock, 2 + 32},
    {GgmlType::kQ4_0, "Q4_0", kBlock, 2 + 16},
    {GgmlType::kQ4_1, "Q4_1", kBlock, 4 + 16},
    {GgmlType::kQ5_0, "Q5_0", kBlock, 2 + 4 + 16},
    {GgmlType::kQ5_1, "Q5_1", kBlock, 4 + 4 + 16},
    {GgmlType::kQ4K, "Q4_K", kSuperBlock, 4 + 12 + 128},
    {GgmlType::kQ6K, "Q6_K", kSuperBlock, 128 + 64 + 16 + 2},
};

// Types that exist but are not read here, so that a message can name them.
constexpr struct {
  uint32_t number;
  const char* name;
} kOtherTypes[] = {{9, "Q8_1"},     {10, "Q2_K"},   {11, "Q3_K"},    {13, "Q5_K"},  {15, "Q8_K"},
                   {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"},
                   {21, "IQ3_S"},   {22, "IQ2_S"},  {23, "IQ4_XS"},  {24, "I8"},    {25, "I16"},
                   {26, "I32"},     {27, "I64"},    {28, "F64"},     {29, "IQ1_M"}, {34, "TQ1_0"},
                   {35, "TQ2_0"},   {39, "MXFP4"},  {40, "NVFP4"},   {41, "Q1_0"}};

uint16_t Load16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }

float LoadHalf(const uint8_t* p) {
  const uint32_t half = Load16(p);
  const uint32_t sign = (half & 0x8000) << 16;
  const uint32_t exponent = half >> 10 & 0x1F;
  const uint32_t mantissa = half & 0x3FF;
  if (exponent == 0) {  // zero and subnormal: mantissa * 2^-24 is exact in fp32
    const float magnitude = static_cast<float>(mantissa) * 0x1.0p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  const uint32_t wide_exponent = exponent == 0x1F ? 0xFF : exponent + (127 - 15);
  return std::bit_cast<float>(sign | wide_exponent << 23 | mantissa << 13);
}

float LoadBf16(const uint8_t* p) { return std::bit_cast<float>(uint32_t{Load16(p)} << 16); }

// In the 4- and 5-bit types byte i of the nibbles holds element i (low half) and i + 16 (high
// half); in the 5-bit types bit i of a little-endian word is the fifth bit of element i.

void Q8_0(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  for (int i = 0; i < kBlock; ++i) {
    out[i] = static_cast<float>(static_cast<int8_t>(block[2 + i])) * scale;
  }
}

void Q4_0(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const uint8_t* nibbles = block + 2;
  for (int i = 0; i < kBlock / 2; ++i) {
    out[i] = scale * static_cast<float>((nibbles[i] & 0xF) - 8);
    out[i + kBlock / 2] = scale * static_cast<float>((nibbles[i] >> 4) - 8);
  }
}

void Q4_1(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block), minimum = LoadHalf(block + 2);
  const uint8_t* nibbles = block + 4;
  for (int i = 0; i < kBlock / 2; ++i) {
    out[i] = scale * static_cast<float>(nibbles[i] & 0xF) + minimum;
    out[i + kBlock / 2] = scale * static_cast<float>(nibbles[i] >> 4) + minimum;
  }
}

// The 5-bit value of elements i and i + 16.
int Low5(const uint8_t* high_bits, const uint8_t* nibbles, int i) {
  return (nibbles[i] & 0xF) | (high_bits[i / 8] >> (i % 8) & 1) << 4;
}
int High5(const uint8_t* high_bits, const uint8_t* nibbles, int i) {
  return nibbles[i] >> 4 | (high_bits[2 + i / 8] >> (i % 8) & 1) << 4;
}

void Q5_0(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const uint8_t* high_bits = block + 2;
  const uint8_t* nibbles = block + 6;
  for (int i = 0; i < kBlock / 2; ++i) {
    out[i] = scale * static_cast<float>(Low5(high_bits, nibbles, i) - 16);
    out[i + kBlock / 2] = scale * static_cast<float>(High5(high_bits, nibbles, i) - 16);
  }
}

void Q5_1(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block), minimum = LoadHalf(block + 2);
  const uint8_t* high_bits = block + 4;
  const uint8_t* nibbles = block + 8;
  for (int i = 0; i < kBlock / 2; ++i) {
    out[i] = scale * static_cast<float>(Low5(high_bits, nibbles, i)) + minimum;
    out[i + kBlock / 2] = scale * static_cast<float>(High5(high_bits, nibbles, i)) + minimum;
  }
}

// 8 groups of 32 elements, each with a 6-bit scale and a 6-bit minimum; two groups share 32 bytes
// of nibbles, the first in the low halves. Groups 0-3 have their six bits in bytes 0-3 (scale) and
// 4-7 (minimum); groups 4-7 have the low four in bytes 8-11 and the high two in the top bits of
// bytes 0-7.
void Q4K(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block), minimum = LoadHalf(block + 2);
  const uint8_t* packed = block + 4;
  const uint8_t* nibbles = block + 16;
  for (int group = 0; group < 8; ++group) {
    int group_scale, group_minimum;
    if (group < 4) {
      group_scale = packed[group] & 0x3F;
      group_minimum = packed[group + 4] & 0x3F;
    } else {
      group_scale = (packed[group + 4] & 0xF) | (packed[group - 4] >> 6) << 4;
      group_minimum = packed[group + 4] >> 4 | (packed[group] >> 6) << 4;
    }
    const float d = scale * static_cast<float>(group_scale);
    const float m = minimum * static_cast<float>(group_minimum);
    const uint8_t* bytes = nibbles + group / 2 * 32;
    const int shift = group % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      out[group * 32 + i] = d * static_cast<float>(bytes[i] >> shift & 0xF) - m;
    }
  }
}

// 16 groups of 16 elements with an 8-bit scale each. Per half of 128 elements: 64 bytes of low
// nibbles (elements 0-63 in the low halves, 64-127 in the high ones), 32 bytes of high bit pairs
// (elements 0-31 in bits 0-1, 32-63 in bits 2-3, ...). Values are offset by 32.
void Q6K(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block + 208);
  for (int half = 0; half < 2; ++half) {
    const uint8_t* low = block + half * 64;
    const uint8_t* high = block + 128 + half * 32;
    for (int i = 0; i < 128; ++i) {
      const int low4 = low[i % 64] >> (i / 64 * 4) & 0xF;
      const int high2 = high[i % 32] >> (i / 32 * 2) & 3;
      const int element = half * 128 + i;
      const auto group_scale = static_cast<int8_t>(block[192 + element / 16]);
      out[element] =
          scale * static_cast<float>(group_scale) * static_cast<float>((low4 | high2 << 4) - 32);
    }
  }
}

template <void (*kConvertBlock)(const uint8_t*, float*)>
void ForEachBlock(const GgmlTypeTraits& traits, const uint8_t* blocks, int64_t num_blocks,
                  float* out) {
  for (int64_t i = 0; i < num_blocks; ++i) {
    kConvertBlock(blocks, out);
    blocks += traits.block_bytes;
    out += traits.block_elements;
  }
}

}  // namespace

const GgmlTypeTraits* FindGgmlType(uint32_t type_number) {
  for (const GgmlTypeTraits& traits : kTypes) {
    if (static_cast<uint32_t>(traits.type) == type_number) return &traits;
  }
  return nullptr;
}

std::string DescribeGgmlType(uint32_t type_number) {
  const char* name = "unknown";
  if (const GgmlTypeTraits* traits = FindGgmlType(type_number)) name = traits->name;
  for (const auto& other : kOtherTypes) {
    if (other.number == type_number) name = other.name;
  }
  return fmt::format("{} ({})", name, type_number);
}

std::string SupportedGgmlTypes() {
  std::string names;
  for (const GgmlTypeTraits& traits : kTypes) {
    if (!names.empty()) names += ", ";
    names += traits.name;
  }
  return names;
}

void DequantiseBlocks(GgmlType type, const uint8_t* blocks, int64_t num_blocks, float* out) {
  const GgmlTypeTraits& traits = *FindGgmlType(static_cast<uint32_t>(type));
  switch (type) {
    case GgmlType::kF32:
      std::memcpy(out, blocks, static_cast<size_t>(num_blocks) * sizeof(float));
      return;
    case GgmlType::kF16:
      for (int64_t i = 0; i < num_blocks; ++i) out[i] = LoadHalf(blocks + 2 * i);
      return;
    case GgmlType::kBf16:
      for (int64_t i = 0; i < num_blocks; ++i) out[i] = LoadBf16(blocks + 2 * i);
      return;
    case GgmlType::kQ8_0:
      return ForEachBlock<Q8_0>(traits, blocks, num_blocks, out);
    case GgmlType::kQ4_0:
      return ForEachBlock<Q4_0>(traits, blocks, num_blocks, out);
    case GgmlType::kQ4_1:
      return ForEachBlock<Q4_1>(traits, blocks, num_blocks, out);
    case GgmlType::kQ5_0:
      return ForEachBlock<Q5_0>(traits, blocks, num_blocks, out);
    case GgmlType::kQ5_1:
      return ForEachBlock<Q5_1>(traits, blocks, num_blocks, out);
    case GgmlType::kQ4K:
      return ForEachBlock<Q4K>(traits, blocks, num_blocks, out);
    case GgmlType::kQ6K:
      return ForEachBlock<Q6K>(traits, blocks, num_blocks, out);
  }
}

}  // namespace moe::artefacts
