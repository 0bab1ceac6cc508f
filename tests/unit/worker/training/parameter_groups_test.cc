#include "worker/training/parameter_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "tests/unit/worker/training/tiny_run.h"
#include "worker/model/arena.h"
#include "worker/training/adamw.h"
#include "worker/training/random_start.h"

namespace moe::training {
namespace {

TEST(ParameterGroupsTest, GroupOf_NamesEveryParameterOfAMixture) {
  artefacts::ModelConfig config = TinyMoe();
  config.tie_word_embeddings = false;
  const model::ParameterLayout layout(config);
  std::map<std::string, std::set<std::string>> groups;
  for (const model::Parameter& parameter : layout.parameters()) {
    if (parameter.name.starts_with("layers.1.")) continue;
    groups[GroupOf(parameter)].insert(parameter.name);
  }
  const std::map<std::string, std::set<std::string>> expected = {
      {"embeddings", {"embed", "lm_head"}},
      {"attention", {"layers.0.qkv", "layers.0.attn_out"}},
      {"ffn", {"layers.0.experts.gate_up", "layers.0.experts.down"}},
      {"gates", {"layers.0.router.0", "layers.0.router.2", "layers.0.noise"}},
      {"norms", {"norm", "layers.0.attn_norm", "layers.0.ffn_norm"}}};
  EXPECT_EQ(groups, expected);
}

TEST(ParameterGroupsTest, DecaySegments_SplitWhereTheRatioChanges) {
  const model::ParameterLayout layout(TinyMoe());
  const auto segments = DecaySegments(layout, {0, layout.arena_numel()}, {{"gates", 0.25}});
  int64_t next = 0;
  for (const DecaySegment& segment : segments) {
    EXPECT_EQ(segment.range.begin, next);
    next = segment.range.end;
  }
  EXPECT_EQ(next, layout.arena_numel());
  const int64_t gate = layout.Find("layers.0.router.0").offset;
  for (const DecaySegment& segment : segments) {
    if (gate >= segment.range.begin && gate < segment.range.end) {
      EXPECT_EQ(segment.learning_rate_ratio, 0.25);
      EXPECT_EQ(segment.range.begin, gate);
    }
  }
}

TEST(RandomStartTest, HasTheStatedDeviationAndIsAFunctionOfTheSeed) {
  const model::ParameterLayout layout(TinyMoe());
  const at::Tensor a = RandomStart(TinyMoe(), 1), b = RandomStart(TinyMoe(), 1),
                   c = RandomStart(TinyMoe(), 2);
  EXPECT_TRUE(a.equal(b));
  EXPECT_FALSE(a.equal(c));
  const at::Tensor embed = model::View(a, layout.Find("embed"));
  const float* values = embed.const_data_ptr<float>();
  double squares = 0;
  for (int64_t i = 0; i < embed.numel(); ++i) squares += values[i] * values[i];
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(embed.numel())), 0.02, 0.001);
  EXPECT_EQ(model::View(a, layout.Find("norm")).const_data_ptr<float>()[5], 1.0f);
  EXPECT_EQ(model::View(a, layout.Find("layers.1.noise")).const_data_ptr<float>()[5], 0.0f);
}

TEST(RandomStartTest, OfAPartOfTheExperts_IsThatPartOfTheWhole) {
  const at::Tensor whole = RandomStart(TinyMoe(), 1);
  for (int64_t index = 0; index < 4; ++index) {
    const model::ParameterLayout layout(TinyMoe(), {.index = index, .count = 4});
    const at::Tensor part = RandomStart(TinyMoe(), 1, layout.share());
    for (const model::Parameter& parameter : layout.parameters()) {
      EXPECT_TRUE(part.narrow(0, parameter.offset, parameter.numel)
                      .equal(whole.narrow(0, parameter.whole_offset, parameter.numel)))
          << parameter.name << " of part " << index;
    }
  }
}

}  // namespace
}  // namespace moe::training
