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
