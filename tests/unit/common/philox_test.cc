#include "common/philox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace moe {
namespace {

using testing::ElementsAre;

// The known-answer vectors of Random123 (kat_vectors, philox4x32 10).
TEST(Philox4x32, KnownAnswers) {
  EXPECT_THAT(Philox4x32({0, 0, 0, 0}, 0),
              ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  EXPECT_THAT(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, 0xffffffffffffffff),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(Philox, EveryCoordinateMatters) {
  const auto base = Philox(1, RandomStream::kTest, 2, 3);
  EXPECT_EQ(Philox(1, RandomStream::kTest, 2, 3), base);
  EXPECT_NE(Philox(2, RandomStream::kTest, 2, 3), base);
  EXPECT_NE(Philox(uint64_t{1} | uint64_t{1} << 32, RandomStream::kTest, 2, 3), base);
  EXPECT_NE(Philox(1, RandomStream::kGateInit, 2, 3), base);
  EXPECT_NE(Philox(1, RandomStream::kTest, 1, 3), base);
  EXPECT_NE(Philox(1, RandomStream::kTest, 2, 4), base);
  EXPECT_NE(Philox(1, RandomStream::kTest, 2, 3 | uint64_t{1} << 32), base);
}

TEST(Philox, Uniforms_StayInTheirIntervals) {
  EXPECT_EQ(UniformDouble(0, 0), 0.0);
  EXPECT_LT(UniformDouble(0xffffffff, 0xffffffff), 1.0);
  EXPECT_GT(UniformFloatOpen(0), 0.0f);
  EXPECT_EQ(UniformFloatOpen(0xffffffff), 1.0f);
}

TEST(Philox, Normal4_HasTheMomentsOfANormal) {
  double sum = 0, squares = 0, fourth = 0;
  constexpr int kDraws = 50'000;
  for (int i = 0; i < kDraws; ++i) {
    for (const float x : Normal4(Philox(5, RandomStream::kTest, 0, static_cast<uint64_t>(i)))) {
      ASSERT_TRUE(std::isfinite(x));
      sum += x;
      squares += double{x} * x;
      fourth += double{x} * x * x * x;
    }
  }
  // Bounds of about five standard errors.
  constexpr double n = 4.0 * kDraws;
  EXPECT_NEAR(sum / n, 0.0, 0.012);
  EXPECT_NEAR(squares / n, 1.0, 0.016);
  EXPECT_NEAR(fourth / n, 3.0, 0.11);
  EXPECT_TRUE(std::isfinite(Normal4({0, 0, 0xffffffff, 0xffffffff})[0]));
}

TEST(PhiloxGenerator, DrawsTheWordsOfConsecutiveBlocks) {
  PhiloxGenerator generator(9, RandomStream::kTest, 4);
  for (uint64_t block = 0; block < 3; ++block) {
    for (const uint32_t word : Philox(9, RandomStream::kTest, 4, block)) {
      EXPECT_EQ(generator.Next32(), word);
    }
  }
}

TEST(PhiloxGenerator, Below_CoversTheRangeEvenly) {
  PhiloxGenerator generator(9, RandomStream::kTest, 0);
  std::vector<int> counts(7);
  for (int i = 0; i < 70'000; ++i) ++counts.at(generator.Below(7));
  for (const int count : counts) EXPECT_NEAR(count, 10'000, 500);
  EXPECT_EQ(generator.Below(1), 0u);
  // A bound just above 2^63 rejects almost half of the draws.
  for (int i = 0; i < 1000; ++i) {
    EXPECT_LE(generator.Below((uint64_t{1} << 63) + 1), uint64_t{1} << 63);
  }
}

}  // namespace
}  // namespace moe
