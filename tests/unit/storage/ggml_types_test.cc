#include "storage/artefacts/ggml_types.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "common/crc32c.h"

namespace moe::artefacts {
namespace {

// From `tests/unit/storage/oracle.py goldens`: what the reference (package gguf 0.19) makes of the
// blocks below.
struct Golden {
  GgmlType type;
  int64_t num_blocks;
  uint32_t crc32c;  // of all floats
  float values[4];  // first, second, the last of the first half, last
};
constexpr Golden kGoldens[] = {
    // clang-format off
    {GgmlType::kF16, 16, 0x4E223B51, {0x1.02cp-3f, -0x1.5cp-10f, -0x1.f38p+13f, 0x1.fd8p-9f}},
    {GgmlType::kBf16, 16, 0x3C3E327F, {0x1.16p-31f, -0x1.ep-85f, -0x1.9cp+104f, 0x1.ecp-72f}},
    {GgmlType::kQ8_0, 2, 0x8ED1791B, {0x1.0fefp+3f, 0x1.864ep+3f, -0x1.332p+2f, -0x1.e1f8p-11f}},
    {GgmlType::kQ4_0, 2, 0xD343FD7D, {-0x1.332p-2f, 0x1.998p-3f, 0.0f, -0x1.b48p-14f}},
    {GgmlType::kQ4_1, 2, 0x952936B4, {0x1.9dc4p+0f, 0x1.0878p-1f, 0x1.50fcp+0f, -0x1.b5p-15f}},
    {GgmlType::kQ5_0, 2, 0xCF48B63D, {0x1.ccbp-1f, -0x1.998p-3f, 0x1.998p-4f, 0x1.476p-13f}},
    {GgmlType::kQ5_1, 2, 0xACA50374, {0x1.0212p+1f, 0x1.420ep+1f, 0x1.3ba8p-1f, -0x1.d9p-13f}},
    {GgmlType::kQ4K, 2, 0x077B70AB, {0x1.c24a4p+4f, -0x1.7cb5p+2f, 0x1.420ep+1f, -0x1.46dp-12f}},
    {GgmlType::kQ6K, 2, 0x127EF21E, {-0x1.1e215p+7f, 0x1.531ep+7f, -0x1.7fe8p+2f, 0x1.029a8p-5f}},
    // clang-format on
};

// Where the fp16 scales of a block lie.
std::vector<size_t> ScaleOffsets(GgmlType type) {
  switch (type) {
    case GgmlType::kQ8_0:
    case GgmlType::kQ4_0:
    case GgmlType::kQ5_0:
      return {0};
    case GgmlType::kQ4_1:
    case GgmlType::kQ5_1:
    case GgmlType::kQ4K:
      return {0, 2};
    case GgmlType::kQ6K:
      return {208};
    default:
      return {};
  }
}

// Bytes of a simple pattern; scales that are ordinary in the first block, subnormal in the second.
std::vector<uint8_t> MakeBlocks(const Golden& golden, size_t block_bytes) {
  std::vector<uint8_t> bytes;
  for (int64_t block = 0; block < golden.num_blocks; ++block) {
    for (size_t i = 0; i < block_bytes; ++i) {
      bytes.push_back(static_cast<uint8_t>(37 * i + 101 * static_cast<size_t>(block) + 11));
    }
    unsigned scale = block == 0 ? 0x2E66 : 0x8123;
    for (const size_t offset : ScaleOffsets(golden.type)) {
      uint8_t* const p = bytes.data() + static_cast<size_t>(block) * block_bytes + offset;
      p[0] = static_cast<uint8_t>(scale);
      p[1] = static_cast<uint8_t>(scale >> 8);
      scale += block == 0 ? 0x111 : 1;
    }
  }
  return bytes;
}

class DequantiseBlocksTest : public testing::TestWithParam<Golden> {};

TEST_P(DequantiseBlocksTest, GivesTheBitsOfTheReference) {
  const Golden& golden = GetParam();
  const GgmlTypeTraits& traits = *FindGgmlType(static_cast<uint32_t>(golden.type));
  const std::vector<uint8_t> blocks = MakeBlocks(golden, traits.block_bytes);
  std::vector<float> values(static_cast<size_t>(golden.num_blocks * traits.block_elements));
  DequantiseBlocks(golden.type, blocks.data(), golden.num_blocks, values.data());
  EXPECT_EQ(values[0], golden.values[0]);
  EXPECT_EQ(values[1], golden.values[1]);
  EXPECT_EQ(values[values.size() / 2 - 1], golden.values[2]);
  EXPECT_EQ(values.back(), golden.values[3]);
  EXPECT_EQ(Crc32c(values.data(), values.size() * sizeof(float)), golden.crc32c);
}

INSTANTIATE_TEST_SUITE_P(AllTypes, DequantiseBlocksTest, testing::ValuesIn(kGoldens),
                         [](const auto& info) {
                           return FindGgmlType(static_cast<uint32_t>(info.param.type))->name;
                         });

TEST(DequantiseBlocks, Half_KeepsTheSpecialValues) {
  const uint16_t halves[] = {0x0000, 0x8000, 0x0001, 0x03FF, 0x0400,
                             0x7BFF, 0x7C00, 0xFC00, 0x7E00};
  float values[9];
  DequantiseBlocks(GgmlType::kF16, reinterpret_cast<const uint8_t*>(halves), 9, values);
  EXPECT_EQ(values[0], 0.0f);
  EXPECT_TRUE(std::signbit(values[1]));
  EXPECT_EQ(values[2], 0x1p-24f);
  EXPECT_EQ(values[3], 1023 * 0x1p-24f);
  EXPECT_EQ(values[4], 0x1p-14f);
  EXPECT_EQ(values[5], 65504.0f);
  EXPECT_EQ(values[6], INFINITY);
  EXPECT_EQ(values[7], -INFINITY);
  EXPECT_TRUE(std::isnan(values[8]));
}

TEST(DescribeGgmlType, NamesTypesThatAreNotRead) {
  EXPECT_EQ(DescribeGgmlType(3), "Q4_1 (3)");
  EXPECT_EQ(DescribeGgmlType(10), "Q2_K (10)");
  EXPECT_EQ(DescribeGgmlType(1234), "unknown (1234)");
  EXPECT_EQ(FindGgmlType(10), nullptr);
}

}  // namespace
}  // namespace moe::artefacts
