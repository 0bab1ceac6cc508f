#include "worker/construction/coactivation_split.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "common/philox.h"

namespace moe::construction {
namespace {

// Neurons of the same residue by `blocks` are active together.
std::vector<float> Blocks(int64_t width, int64_t blocks) {
  std::vector<float> pairs(width * width, 0.0f);
  for (int64_t i = 0; i < width; ++i) {
    for (int64_t j = 0; j < width; ++j) {
      if (i % blocks == j % blocks) pairs[i * width + j] = 5.0f;
    }
  }
  return pairs;
}

std::vector<float> RandomPairs(int64_t width) {
  std::vector<float> pairs(width * width);
  PhiloxGenerator generator(2, RandomStream::kTest, 0);
  for (int64_t i = 0; i < width; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      const float value = static_cast<float>(generator.Below(1000)) / 100;
      pairs[i * width + j] = pairs[j * width + i] = value;
    }
  }
  return pairs;
}

void ExpectPartition(const LayerPartition& layer, int64_t width, int64_t num_experts) {
  ASSERT_EQ(static_cast<int64_t>(layer.experts.size()), num_experts);
  std::vector<int64_t> all;
  for (const Neurons& expert : layer.experts) {
    EXPECT_EQ(static_cast<int64_t>(expert.size()), width / num_experts);
    EXPECT_TRUE(std::is_sorted(expert.begin(), expert.end()));
    all.insert(all.end(), expert.begin(), expert.end());
  }
  std::sort(all.begin(), all.end());
  for (int64_t n = 0; n < width; ++n) ASSERT_EQ(all[n], n);
}

TEST(CoactivationSplitTest, NeuronsActiveTogether_GoToOneExpert) {
  constexpr int64_t width = 96, num_experts = 4;
  const LayerPartition layer =
      CoactivationSplit(Blocks(width, num_experts).data(), width, num_experts, 0, 1227);
  ExpectPartition(layer, width, num_experts);
  for (const Neurons& expert : layer.experts) {
    for (const int64_t n : expert) EXPECT_EQ(n % num_experts, expert[0] % num_experts);
  }
}

TEST(CoactivationSplitTest, AnyGraph_GivesEqualExperts_AndTheSameAgain) {
  for (const auto& [width, num_experts] : {std::pair<int64_t, int64_t>{96, 8}, {12, 1}, {30, 5}}) {
    const std::vector<float> pairs = RandomPairs(width);
    const LayerPartition layer = CoactivationSplit(pairs.data(), width, num_experts, 3, 1227);
    ExpectPartition(layer, width, num_experts);
    EXPECT_EQ(CoactivationSplit(pairs.data(), width, num_experts, 3, 1227).experts, layer.experts);
  }
}

TEST(CoactivationSplitTest, NothingActive_IsStillAPartition) {
  const std::vector<float> pairs(24 * 24, 0.0f);
  ExpectPartition(CoactivationSplit(pairs.data(), 24, 4, 0, 1), 24, 4);
}

}  // namespace
}  // namespace moe::construction
