#include "worker/construction/partition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "common/status.h"

namespace moe::construction {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(PartitionTest, CheckSplit_CountThatDoesNotDivide_ListsThoseThatDo) {
  const std::string error = Message(CheckSplit(1536, 7));
  EXPECT_THAT(error, AllOf(HasSubstr("num_experts=7"), HasSubstr("1536"),
                           HasSubstr("2, 3, 4, 6, 8, 12, 16, 24")));
  EXPECT_FALSE(CheckSplit(1536, 0).ok());
  EXPECT_FALSE(CheckSplit(1536, 1537).ok());
  EXPECT_TRUE(CheckSplit(1536, 1).ok());
  EXPECT_TRUE(CheckSplit(1536, 1536).ok());
}

TEST(PartitionTest, IndependentRandom_AnySeed_DealsEveryNeuronOnceIntoEqualExperts) {
  for (uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{1227}, ~uint64_t{0}}) {
    for (const auto& [width, num_experts] :
         {std::pair<int64_t, int64_t>(1536, 16), {1536, 8}, {11008, 16}, {12, 12}, {5, 1}}) {
      const Partition partition = IndependentRandom(3, width, num_experts, seed);
      ASSERT_EQ(partition.layers.size(), 3u);
      for (const LayerPartition& layer : partition.layers) {
        ASSERT_EQ(static_cast<int64_t>(layer.experts.size()), num_experts);
        std::vector<int64_t> all;
        for (const std::vector<int64_t>& neurons : layer.experts) {
          EXPECT_EQ(static_cast<int64_t>(neurons.size()), width / num_experts);
          EXPECT_TRUE(std::is_sorted(neurons.begin(), neurons.end()));
          all.insert(all.end(), neurons.begin(), neurons.end());
        }
        std::sort(all.begin(), all.end());
        for (int64_t n = 0; n < width; ++n) ASSERT_EQ(all[n], n);
      }
    }
  }
}

TEST(PartitionTest, IndependentRandom_DependsOnSeedAndLayerAlone) {
  const Partition two = IndependentRandom(2, 96, 4, 1227),
                  three = IndependentRandom(3, 96, 4, 1227);
  EXPECT_EQ(two.layers[0].experts, three.layers[0].experts);
  EXPECT_EQ(two.layers[1].experts, three.layers[1].experts);
  EXPECT_NE(two.layers[0].experts, two.layers[1].experts);
  EXPECT_NE(two.layers[0].experts, IndependentRandom(1, 96, 4, 1228).layers[0].experts);
}

// A shuffle without bias puts each neuron into each expert equally often.
TEST(PartitionTest, IndependentRandom_OverManyLayers_IsUniform) {
  constexpr int64_t kLayers = 4000, kWidth = 12, kExperts = 4;
  const Partition partition = IndependentRandom(kLayers, kWidth, kExperts, 5);
  std::vector<int64_t> counts(kWidth * kExperts);
  for (const LayerPartition& layer : partition.layers) {
    for (int64_t e = 0; e < kExperts; ++e) {
      for (const int64_t n : layer.experts[e]) ++counts[n * kExperts + e];
    }
  }
  const double expected = static_cast<double>(kLayers) / kExperts;
  double chi_squared = 0;
  for (const int64_t count : counts) {
    chi_squared += (count - expected) * (count - expected) / expected;
  }
  // (12 - 1)(4 - 1) = 33 degrees of freedom: 0.1% of fair shuffles are above 63.9.
  EXPECT_LT(chi_squared, 63.9);
}

// Recorded results depend on this sequence: it must not change. The values are those of a separate
// implementation of Philox4x32-10, Lemire's method and the shuffle.
TEST(PartitionTest, IndependentRandom_Seed1227_IsWhatItWas) {
  const LayerPartition layer = IndependentRandom(1, 12, 3, 1227).layers[0];
  const std::vector<std::vector<int64_t>> expected = {{2, 6, 8, 11}, {1, 4, 5, 7}, {0, 3, 9, 10}};
  EXPECT_EQ(layer.experts, expected);
}

}  // namespace
}  // namespace moe::construction
