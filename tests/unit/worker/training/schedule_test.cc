#include "worker/training/schedule.h"

#include <gtest/gtest.h>

namespace moe::training {
namespace {

constexpr Schedule kPublished = {
    .peak_learning_rate = 2e-4, .final_ratio = 0.1, .warmup_steps = 100, .total_steps = 13623};

// Values of the published implementation, to ten digits.
TEST(Schedule, Factor_PublishedSettings_MatchesPublishedValues) {
  const struct {
    int64_t t;
    double factor;
  } golden[] = {
      {0, 0},
      {1, .01},
      {50, .5},
      {99, .99},
      {100, 1},
      {340, .9992230311},
      {1000, .9891108001},
      {5000, .7095500493},
      {8000, .3692913043},
      {10000, .1668932218},
      {10853, .1000032424},
      {10854, .1},
      {13623, .1},

  };
  for (const auto& [t, factor] : golden) {
    EXPECT_NEAR(kPublished.Factor(t), factor, 1e-10) << "t=" << t;
  }
}

TEST(Schedule, LearningRate_FirstStep_IsNotANoOp) {
  EXPECT_DOUBLE_EQ(kPublished.LearningRate(1), 2e-4 * 0.01);
  EXPECT_DOUBLE_EQ(kPublished.LearningRate(100), 2e-4);
}

TEST(Schedule, Factor_WarmupAsLongAsTheRun_StaysFinite) {
  const Schedule schedule = {.final_ratio = 0.1, .warmup_steps = 10, .total_steps = 10};
  EXPECT_DOUBLE_EQ(schedule.Factor(9), 0.9);
  EXPECT_DOUBLE_EQ(schedule.Factor(10), 1.0);
  const Schedule none = {.final_ratio = 0.0, .warmup_steps = 0, .total_steps = 0};
  EXPECT_DOUBLE_EQ(none.Factor(0), 1.0);
}

}  // namespace
}  // namespace moe::training
