#include "common/crc32c.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/philox.h"

namespace moe {
namespace {

// The definition, one bit at a time.
uint32_t Reference(const uint8_t* data, size_t size) {
  uint32_t crc = 0xFFFFFFFF;
  for (size_t i = 0; i < size; ++i) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0x82F63B78 : crc >> 1;
  }
  return ~crc;
}

std::vector<uint8_t> RandomBytes(size_t size) {
  PhiloxGenerator random(1, RandomStream::kTest, 0);
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.Next32());
  return bytes;
}

// RFC 3720, appendix B.4, and the check value of the CRC catalogues.
TEST(Crc32c, PublishedVectors) {
  std::vector<uint8_t> bytes(32, 0);
  EXPECT_EQ(Crc32c(bytes.data(), 32), 0x8A9136AAu);
  bytes.assign(32, 0xFF);
  EXPECT_EQ(Crc32c(bytes.data(), 32), 0x62A8AB43u);
  for (size_t i = 0; i < 32; ++i) bytes[i] = static_cast<uint8_t>(i);
  EXPECT_EQ(Crc32c(bytes.data(), 32), 0x46DD794Eu);
  for (size_t i = 0; i < 32; ++i) bytes[i] = static_cast<uint8_t>(31 - i);
  EXPECT_EQ(Crc32c(bytes.data(), 32), 0x113FDB5Cu);
  EXPECT_EQ(Crc32c("123456789", 9), 0xE3069283u);
  EXPECT_EQ(Crc32c(nullptr, 0), 0u);
}

// Long inputs are split into three streams of 4096 bytes: sizes around the multiples of that, from
// every alignment.
TEST(Crc32c, EverySizeAndAlignmentAroundTheStrides_EqualsTheDefinition) {
  const std::vector<uint8_t> bytes = RandomBytes(3 * 3 * 4096 + 64);
  for (size_t size = 0; size < 64; ++size) {
    EXPECT_EQ(Crc32c(bytes.data() + size % 8, size), Reference(bytes.data() + size % 8, size));
  }
  for (const size_t strides : {1, 2, 3, 6, 9}) {
    for (size_t extra = 0; extra < 32; ++extra) {
      const size_t size = strides * 4096 + extra - 16;
      const uint8_t* data = bytes.data() + extra % 9;
      EXPECT_EQ(Crc32c(data, size), Reference(data, size)) << size;
    }
  }
}

TEST(Crc32c, InPieces_EqualsTheWhole) {
  const std::vector<uint8_t> bytes = RandomBytes(50'000);
  const uint32_t whole = Crc32c(bytes.data(), bytes.size());
  for (const size_t cut : {0, 1, 4096, 12'287, 12'288, 12'289, 49'999, 50'000}) {
    const uint32_t first = Crc32c(bytes.data(), cut);
    EXPECT_EQ(Crc32c(bytes.data() + cut, bytes.size() - cut, first), whole) << cut;
  }
}

TEST(Crc32cJoin, OfAnyTwoParts_IsThatOfTheWhole) {
  const std::vector<uint8_t> bytes = RandomBytes(50'000);
  const uint32_t whole = Crc32c(bytes.data(), bytes.size());
  for (const size_t cut : {0, 1, 4096, 12'289, 32'768, 49'999, 50'000}) {
    const size_t rest = bytes.size() - cut;
    EXPECT_EQ(Crc32cJoin(Crc32c(bytes.data(), cut), Crc32c(bytes.data() + cut, rest), rest), whole)
        << cut;
  }
}

}  // namespace
}  // namespace moe
