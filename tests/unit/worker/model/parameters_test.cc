#include "worker/model/parameters.h"

#include <gtest/gtest.h>

#include "tests/published_shapes.h"

namespace moe::model {
namespace {

using published::SmolLm2;

TEST(ParameterLayout, SmolLm2_HasThePublishedNumberOfParameters) {
  const ParameterLayout layout(SmolLm2());
  EXPECT_EQ(layout.total_parameters(), 134'515'008);
  EXPECT_EQ(layout.active_parameters(), layout.total_parameters());
}

TEST(ParameterLayout, Mixture_CountsIdleExpertsAsInactive) {
  artefacts::ModelConfig config = SmolLm2();
  config.moe.num_experts = 16;
  config.moe.top_k = 4;
  config.moe.expert_width = 96;
  const ParameterLayout layout(config);
  const int64_t gate = 30 * (16 * 576 + 16 * 16 + 16 * 576);
  EXPECT_EQ(layout.total_parameters(), 134'515'008 + gate);
  EXPECT_EQ(layout.total_parameters() - layout.active_parameters(), 30 * 12 * 3 * 96 * 576);
}

TEST(ParameterLayout, ExtendedMixture_CountsSharedExpertsAndDenseLayersAsActive) {
  artefacts::ModelConfig config = SmolLm2();
  config.moe = {.num_experts = 14, .top_k = 2, .expert_width = 96, .add_noise = false};
  config.moe.gate_network = "linear";
  config.moe.shared_width = 192;
  config.moe.dense_layers = {0, 29};
  config.moe.output_bias = true;
  const ParameterLayout layout(config);
  EXPECT_EQ(layout.total_parameters(), 134'515'008 + 28 * (14 * 576 + 576));
  EXPECT_EQ(layout.total_parameters() - layout.active_parameters(), 28 * 12 * 3 * 96 * 576);
  EXPECT_TRUE(layout.Has("layers.0.gate_up"));
  EXPECT_FALSE(layout.Has("layers.0.shared.gate_up"));
  EXPECT_FALSE(layout.Find("layers.1.output_bias").decay);
}

TEST(ParameterLayout, RangesAreAlignedAndDisjoint) {
  artefacts::ModelConfig config = SmolLm2();
  config.hidden_size = 50;  // not a multiple of the alignment
  const ParameterLayout layout(config);
  int64_t end = 0;
  for (const Parameter& parameter : layout.parameters()) {
    EXPECT_EQ(parameter.offset % 64, 0) << parameter.name;
    EXPECT_GE(parameter.offset, end) << parameter.name;
    end = parameter.offset + parameter.numel;
  }
  EXPECT_GE(layout.arena_numel(), end);
}

artefacts::ModelConfig MixedMoe() {
  artefacts::ModelConfig config = SmolLm2();
  config.num_layers = 4;
  config.moe = {.num_experts = 12, .top_k = 2, .expert_width = 96, .shared_width = 192};
  config.moe.dense_layers = {0, 2};
  config.tie_word_embeddings = false;
  return config;
}

TEST(ParameterLayout, Shares_HoldEveryExpertOnceAndTheRestEach) {
  const ParameterLayout whole(MixedMoe());
  std::vector<int> held(static_cast<size_t>(whole.arena_numel()));
  for (int64_t index = 0; index < 3; ++index) {
    const ParameterLayout layout(MixedMoe(), {.index = index, .count = 3});
    EXPECT_EQ(layout.whole_numel(), whole.arena_numel());
    EXPECT_EQ(layout.total_parameters(), whole.total_parameters());
    EXPECT_EQ(layout.active_parameters(), whole.active_parameters());
    EXPECT_EQ(layout.Find("layers.1.experts.down").shape, (std::vector<int64_t>{4, 576, 96}));
    int64_t numel = 0;
    for (const Region region : kRegions) {
      for (const auto& [begin, end] : layout.WholeRanges(layout.RegionRange(region))) {
        for (int64_t i = begin; i < end; ++i) ++held[static_cast<size_t>(i)];
        numel += end - begin;
      }
    }
    EXPECT_EQ(numel, layout.arena_numel());
  }
  for (const Parameter& parameter : whole.parameters()) {
    const bool is_expert = parameter.name.find(".experts.") != std::string::npos;
    for (const int64_t i : {parameter.offset, parameter.offset + parameter.numel - 1}) {
      EXPECT_EQ(held[static_cast<size_t>(i)], is_expert ? 1 : 3) << parameter.name;
    }
  }
}

TEST(ParameterLayout, LayersOfARegion_FollowEachOther) {
  for (const int64_t count : {1, 3}) {
    const ParameterLayout layout(MixedMoe(), {.index = 1 % count, .count = count});
    for (const Region region : kRegions) {
      int64_t next = layout.RegionRange(region).begin;
      for (int64_t layer = -1; layer <= layout.num_layers(); ++layer) {
        const auto [begin, end] = layout.LayerRange(layer, region);
        EXPECT_EQ(begin, next);
        next = end;
      }
      EXPECT_EQ(next, layout.RegionRange(region).end);
    }
    const auto [begin, end] = layout.LayerRange(2, Region::kExperts);
    EXPECT_EQ(begin, end) << "a dense layer has no experts";
    EXPECT_EQ(layout.RegionRange(Region::kExperts) ==
                  (ParameterLayout::Range{layout.arena_numel(), layout.arena_numel()}),
              count == 1);
  }
}

TEST(ParameterLayout, WholeRanges_OfAWholeModelAreTheSame) {
  const ParameterLayout layout(MixedMoe());
  EXPECT_EQ(layout.WholeRanges({64, layout.arena_numel() - 64}),
            (std::vector<ParameterLayout::Range>{{64, layout.arena_numel() - 64}}));
}

TEST(ParameterLayout, OnlyNormsGoWithoutWeightDecay) {
  const ParameterLayout layout(SmolLm2());
  EXPECT_FALSE(layout.Find("layers.3.attn_norm").decay);
  EXPECT_FALSE(layout.Find("norm").decay);
  EXPECT_TRUE(layout.Find("embed").decay);
  EXPECT_TRUE(layout.Find("layers.3.qkv").decay);
  EXPECT_FALSE(layout.Has("lm_head")) << "tied";
}

}  // namespace
}  // namespace moe::model
