#include "coordinator/step_pace.h"

#include <gtest/gtest.h>

namespace moe::coordinator {
namespace {

TEST(StepPaceTest, WithoutAMeasure_NothingCountsAsHung) {
  StepPace pace;
  EXPECT_FALSE(pace.DeadlineMillis().has_value());
  pace.OnStep(1, 1000);
  pace.OnStep(1, 2000);
  EXPECT_FALSE(pace.DeadlineMillis().has_value()) << "two steps are no measure";
}

TEST(StepPaceTest, Deadline_LeavesTimeWithinTenStepsAndFiveSeconds) {
  StepPace pace;
  for (int64_t step = 1; step <= 5; ++step) pace.OnStep(2, step * 2000);
  ASSERT_TRUE(pace.DeadlineMillis().has_value());
  EXPECT_GT(*pace.DeadlineMillis(), 10000 + 5 * 2000);
  EXPECT_LT(*pace.DeadlineMillis(), 10000 + 10 * 2000 + 5000 - 1000);
}

TEST(StepPaceTest, OneSlowStep_ChangesNothing) {
  StepPace pace;
  for (int64_t step = 1; step <= 9; ++step) pace.OnStep(step == 5 ? 60 : 1, step * 1000);
  EXPECT_EQ(pace.MedianSeconds(), 1);
}

TEST(StepPaceTest, SlowerSteps_RaiseTheMeasureWithTime) {
  StepPace pace;
  int64_t now = 0;
  for (int step = 0; step < 40; ++step) pace.OnStep(1, now += 1000);
  for (int step = 0; step < 40; ++step) pace.OnStep(5, now += 5000);
  EXPECT_EQ(pace.MedianSeconds(), 5);
}

TEST(StepPaceTest, SomethingElseThatMoved_StartsTheSilenceAnew) {
  StepPace pace;
  for (int64_t step = 1; step <= 5; ++step) pace.OnStep(1, step * 1000);
  const int64_t before = *pace.DeadlineMillis();
  pace.OnOther(9000);
  EXPECT_EQ(*pace.DeadlineMillis(), before + 4000);
}

}  // namespace
}  // namespace moe::coordinator
