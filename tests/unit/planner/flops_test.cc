#include "planner/flops.h"

#include <gtest/gtest.h>

#include "tests/published_shapes.h"
#include "worker/model/parameters.h"

namespace moe::planner {
namespace {

using published::Llama7B;
using published::SmolLm2;
using published::Split;

TEST(FlopsTest, Counts_AreThePublishedOnes) {
  const model::ParameterLayout smollm2(SmolLm2());
  EXPECT_EQ(smollm2.total_parameters(), 134'515'008);
  const model::ParameterLayout sparse(Split(Llama7B(), 16, 4)), wide(Split(Llama7B(), 8, 2));
  EXPECT_NEAR(static_cast<double>(sparse.total_parameters()), 6.743e9, 1e6);
  EXPECT_NEAR(static_cast<double>(sparse.active_parameters()), 3.496e9, 1e6);
  EXPECT_NEAR(static_cast<double>(wide.active_parameters()), 3.494e9, 1e6);
}

// Per token at 4,096 tokens, causal attention counted once: 7.80 GFLOP forward, 23.41 in training.
TEST(FlopsTest, LlamaMoe3p5B_ArithmeticPerToken) {
  const Flops flops = CountFlops(Split(Llama7B(), 16, 4), 4096);
  EXPECT_NEAR(flops.Forward(), 7.80e9, 0.01e9);
  EXPECT_NEAR(flops.PerTrainedToken(), 23.41e9, 0.01e9);
  EXPECT_NEAR(CountFlops(Split(Llama7B(), 8, 2), 4096).PerTrainedToken(), 23.40e9, 0.01e9);
  EXPECT_NEAR(CountFlops(Split(Llama7B(), 16, 2), 4096).PerTrainedToken(), 20.16e9, 0.01e9);
}

TEST(FlopsTest, Experts_AreCountedAsOftenAsATokenMeetsThem) {
  const Flops dense = CountFlops(Llama7B(), 2);
  const Flops all = CountFlops(Split(Llama7B(), 16, 16), 2);
  const Flops some = CountFlops(Split(Llama7B(), 16, 4), 2);
  const double ffn = 2.0 * 32 * 3 * 4096 * 11008;
  EXPECT_DOUBLE_EQ(all.experts, ffn);
  EXPECT_DOUBLE_EQ(some.experts, ffn / 4);
  EXPECT_EQ(dense.experts, 0);
  EXPECT_GT(dense.dense, ffn);
}

TEST(FlopsTest, OutputMatrix_CountsOnceWhetherTiedOrNot) {
  artefacts::ModelConfig config = Split(SmolLm2(), 16, 4);
  const Flops tied = CountFlops(config, 512);
  EXPECT_DOUBLE_EQ(tied.head, 2.0 * 49152 * 576);
  config.tie_word_embeddings = false;
  const Flops of_its_own = CountFlops(config, 512);
  EXPECT_DOUBLE_EQ(of_its_own.head, tied.head);
  EXPECT_DOUBLE_EQ(of_its_own.Forward(), tied.Forward());
}

TEST(FlopsTest, LayersLeftDense_CountAsDense) {
  artefacts::ModelConfig config = Split(SmolLm2(), 16, 4);
  const Flops all = CountFlops(config, 512);
  config.moe.dense_layers = {0, 29};
  const Flops some = CountFlops(config, 512);
  EXPECT_DOUBLE_EQ(some.experts, all.experts * 28 / 30);
  EXPECT_GT(some.Forward(), all.Forward());
}

}  // namespace
}  // namespace moe::planner
