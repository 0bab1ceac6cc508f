#include "worker/construction/importance_split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "common/philox.h"

namespace moe::construction {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

// What the published code was run on: element n of list e is amp sin(phase + step n).
Scores PublishedScores(int num_groups) {
  Scores scores(num_groups);
  for (int e = 0; e < num_groups; ++e) {
    for (int n = 0; n < 12; ++n) {
      scores[e].push_back(static_cast<float>(std::sin(0.4 + 1.3 * e + (0.9 + 0.11 * e) * n)));
    }
  }
  return scores;
}

std::vector<int64_t> Labels(const LayerPartition& layer) {
  std::vector<int64_t> labels(12, -1);
  for (size_t e = 0; e < layer.experts.size(); ++e) {
    for (const int64_t n : layer.experts[e]) labels[n] = static_cast<int64_t>(e);
  }
  return labels;
}

Scores RandomScores(int64_t groups, int64_t neurons, uint32_t stream) {
  Scores scores(groups, std::vector<float>(neurons));
  PhiloxGenerator generator(7, RandomStream::kTest, stream);
  // Few distinct values, so that there are ties.
  for (auto& group : scores) {
    for (float& score : group) score = static_cast<float>(generator.Below(neurons / 2));
  }
  return scores;
}

TEST(ImportanceSplitTest, IndependentImportance_EqualsThePublishedCode) {
  EXPECT_THAT(Labels(IndependentImportance(PublishedScores(3), Criterion::kMax)),
              ElementsAre(1, 0, 0, 1, 2, 2, 1, 1, 0, 0, 2, 2));
  EXPECT_THAT(Labels(IndependentImportance(PublishedScores(3), Criterion::kMin)),
              ElementsAre(1, 2, 2, 1, 0, 0, 0, 2, 2, 1, 1, 0));
}

TEST(ImportanceSplitTest, IndependentImportance_EqualHeads_GoToTheHighestExpert) {
  const LayerPartition layer = IndependentImportance({{5, 1, 2, 0}, {5, 0, 1, 2}}, Criterion::kMax);
  EXPECT_THAT(layer.experts, ElementsAre(ElementsAre(1, 2), ElementsAre(0, 3)));
}

TEST(ImportanceSplitTest, SharingInner_EqualsThePublishedCode) {
  EXPECT_THAT(SharingInner(PublishedScores(3), 5, Criterion::kMax).experts,
              ElementsAre(ElementsAre(8, 1, 2, 9, 7), ElementsAre(6, 0, 7, 5, 1),
                          ElementsAre(10, 4, 5, 9, 11)));
}

TEST(ImportanceSplitTest, SharingInter_EqualsThePublishedCode) {
  SharingInterOptions options{.num_shared_experts = 1, .expert_width = 3, .overlap = true};
  LayerPartition layer = SharingInter(PublishedScores(3), options, Criterion::kMax);
  EXPECT_THAT(layer.shared, ElementsAre(0, 1, 2));
  EXPECT_THAT(layer.experts,
              ElementsAre(ElementsAre(8, 9, 7), ElementsAre(6, 7, 5), ElementsAre(10, 4, 5)));

  options.overlap = false;
  layer = SharingInter(PublishedScores(3), options, Criterion::kMax);
  EXPECT_THAT(layer.shared, ElementsAre(0, 1, 2));
  EXPECT_THAT(layer.experts,
              ElementsAre(ElementsAre(8, 9, 3), ElementsAre(6, 7, 11), ElementsAre(10, 4, 5)));
}

TEST(ImportanceSplitTest, SharingInter_TwoShared_EqualsThePublishedCode) {
  for (const bool overlap : {true, false}) {
    const LayerPartition layer = SharingInter(
        PublishedScores(2), {.num_shared_experts = 2, .expert_width = 3, .overlap = overlap},
        Criterion::kMax);
    EXPECT_THAT(layer.shared, ElementsAre(0, 1, 2, 6, 7, 8));
    EXPECT_THAT(layer.experts, ElementsAre(ElementsAre(9, 3, 10), ElementsAre(5, 11, 4)));
  }
}

TEST(ImportanceSplitTest, Rank_EqualScores_LowerNeuronFirst) {
  EXPECT_THAT(Rank({1, 3, 3, 2, 1}, Criterion::kMax), ElementsAre(1, 2, 3, 0, 4));
  EXPECT_THAT(Rank({1, 3, 3, 2, 1}, Criterion::kMin), ElementsAre(0, 4, 3, 1, 2));
}

TEST(ImportanceSplitTest, IndependentImportance_AnyScores_UsesEveryNeuronOnce) {
  for (const auto& [groups, neurons] : {std::pair<int64_t, int64_t>{16, 96}, {8, 96}, {1, 5}}) {
    const LayerPartition layer =
        IndependentImportance(RandomScores(groups, neurons, 1), Criterion::kMax);
    std::vector<int64_t> all;
    for (const Neurons& expert : layer.experts) {
      EXPECT_EQ(static_cast<int64_t>(expert.size()), neurons / groups);
      EXPECT_TRUE(std::is_sorted(expert.begin(), expert.end()));
      all.insert(all.end(), expert.begin(), expert.end());
    }
    std::sort(all.begin(), all.end());
    for (int64_t n = 0; n < neurons; ++n) ASSERT_EQ(all[n], n);
  }
}

struct Configuration {
  int64_t experts, shared;
};

class SharingInterTest : public ::testing::TestWithParam<Configuration> {};

TEST_P(SharingInterTest, KeepsTheRequestedSizes_AndSharedNeuronsInNoOtherExpert) {
  const auto [num_experts, num_shared] = GetParam();
  const int64_t width = 12, neurons = (num_experts + num_shared) * width;
  for (const bool overlap : {true, false}) {
    const LayerPartition layer =
        SharingInter(RandomScores(num_experts, neurons, 2),
                     {.num_shared_experts = num_shared, .expert_width = width, .overlap = overlap},
                     Criterion::kMax);
    ASSERT_EQ(static_cast<int64_t>(layer.experts.size()), num_experts);
    ASSERT_EQ(static_cast<int64_t>(layer.shared.size()), num_shared * width);
    const std::set<int64_t> shared(layer.shared.begin(), layer.shared.end());
    std::set<int64_t> routed;
    EXPECT_EQ(static_cast<int64_t>(shared.size()), num_shared * width);
    for (const Neurons& expert : layer.experts) {
      EXPECT_EQ(static_cast<int64_t>(std::set<int64_t>(expert.begin(), expert.end()).size()),
                width);
      for (const int64_t n : expert) EXPECT_EQ(shared.count(n), 0u);
      routed.insert(expert.begin(), expert.end());
    }
    if (!overlap) {
      EXPECT_EQ(static_cast<int64_t>(routed.size()), num_experts * width);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Configurations, SharingInterTest,
                         ::testing::Values(Configuration{14, 2}, Configuration{7, 1},
                                           Configuration{13, 3}, Configuration{15, 1}),
                         [](const auto& info) {
                           return std::to_string(info.param.experts) + "plus" +
                                  std::to_string(info.param.shared);
                         });

TEST(ImportanceSplitTest, PruneByImportance_KeepsTheHighestScores) {
  EXPECT_THAT(PruneByImportance({3, 9, 1, 7, 5}, 3, Criterion::kMax), ElementsAre(1, 3, 4));
  EXPECT_THAT(PruneByImportance({3, 9, 1, 7, 5}, 2, Criterion::kMin), ElementsAre(0, 2));
}

TEST(ImportanceSplitTest, PruneAtRandom_LayersDiffer_AndRepeat) {
  const Neurons first = PruneAtRandom(96, 24, 0, 1227);
  EXPECT_EQ(std::set<int64_t>(first.begin(), first.end()).size(), 24u);
  EXPECT_TRUE(std::is_sorted(first.begin(), first.end()));
  EXPECT_GE(first.front(), 0);
  EXPECT_LT(first.back(), 96);
  EXPECT_THAT(PruneAtRandom(96, 24, 0, 1227), ElementsAreArray(first));
  EXPECT_NE(PruneAtRandom(96, 24, 1, 1227), first);
}

}  // namespace
}  // namespace moe::construction
