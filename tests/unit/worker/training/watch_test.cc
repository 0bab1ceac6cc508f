#include "worker/training/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace moe::training {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

WatchPolicy Policy() {
  WatchPolicy policy;
  policy.window_steps = 8;
  policy.on_loss_spike = WatchAction::kSkip;
  return policy;
}

Verdict Judge(const WatchPolicy& policy, double loss, WatchState& state) {
  return JudgeStep(policy, 1, loss, 0.01, 1.0, state);
}

// Losses that differ a little, until the window is full.
WatchState FullWindow(const WatchPolicy& policy) {
  WatchState state;
  for (int i = 0; i < policy.window_steps; ++i) Judge(policy, i % 2 == 0 ? 2.9 : 3.1, state);
  return state;
}

TEST(WatchTest, JudgeStep_SpikeAboveTheWindow_IsSkippedAndNotLearnedFrom) {
  WatchState state = FullWindow(Policy());
  const std::deque<double> before = state.recent_losses;
  const Verdict verdict = Judge(Policy(), 3.61, state);  // mean 3, deviation 0.1, limit 3.6
  EXPECT_EQ(verdict.trouble, Trouble::kLossSpike);
  EXPECT_EQ(verdict.action, WatchAction::kSkip);
  EXPECT_THAT(verdict.text, HasSubstr("loss=3.6100 is above 3.6000"));
  EXPECT_EQ(state.recent_losses, before);
  EXPECT_EQ(Judge(Policy(), 3.59, state).trouble, Trouble::kNone);
  EXPECT_EQ(state.bad_steps, 0);
}

TEST(WatchTest, JudgeStep_WithoutAFullWindow_KnowsNoSpikes) {
  WatchState state;
  for (int i = 0; i < 7; ++i) Judge(Policy(), 3.0, state);
  EXPECT_EQ(Judge(Policy(), 30.0, state).trouble, Trouble::kNone);
}

TEST(WatchTest, JudgeStep_EqualLosses_AreNoReasonToCallTheNextASpike) {
  WatchState state;
  for (int i = 0; i < 8; ++i) Judge(Policy(), 3.0, state);
  EXPECT_EQ(Judge(Policy(), 3.05, state).trouble, Trouble::kNone);
}

TEST(WatchTest, JudgeStep_ReportedSpike_CountsAsAStepAsAnyOther) {
  WatchPolicy policy = Policy();
  policy.on_loss_spike = WatchAction::kReport;
  WatchState state = FullWindow(policy);
  EXPECT_EQ(Judge(policy, 9.0, state).trouble, Trouble::kLossSpike);
  EXPECT_EQ(state.recent_losses.back(), 9.0);
  EXPECT_EQ(state.bad_steps, 0);
}

TEST(WatchTest, JudgeStep_EveryQuantityIsLookedAt) {
  WatchState state;
  EXPECT_EQ(JudgeStep(Policy(), 1, kNan, 0, 1, state).trouble, Trouble::kNonFinite);
  EXPECT_EQ(JudgeStep(Policy(), 2, 3, kNan, 1, state).trouble, Trouble::kNonFinite);
  const Verdict verdict =
      JudgeStep(Policy(), 3, 3, 0, std::numeric_limits<double>::infinity(), state);
  EXPECT_EQ(verdict.trouble, Trouble::kNonFinite);
  EXPECT_THAT(verdict.text, HasSubstr("step 3: loss=3 balance_loss=0 gradient_norm=inf"));
  EXPECT_EQ(state.bad_steps, 3);
}

TEST(WatchTest, JudgeStep_TooManyInARow_Stops) {
  WatchState state;
  for (int i = 1; i < 5; ++i) EXPECT_EQ(Judge(Policy(), kNan, state).action, WatchAction::kSkip);
  EXPECT_EQ(Judge(Policy(), kNan, state).action, WatchAction::kStop);
  state.bad_steps = 4;
  Judge(Policy(), 3.0, state);
  EXPECT_EQ(Judge(Policy(), kNan, state).action, WatchAction::kSkip) << "a good step between";
}

TEST(WatchTest, RoutingWatch_BalancedLoads_SaysNothing) {
  RoutingWatch watch(Policy());
  for (int i = 0; i < 16; ++i) {
    EXPECT_THAT(watch.Observe({{.load = {9, 11, 10, 10}, .importance = {}}}, 2), IsEmpty());
  }
}

TEST(WatchTest, RoutingWatch_OneIdleExpert_IsNamedOncePerWindow) {
  RoutingWatch watch(Policy());
  int warnings = 0;
  for (int i = 0; i < 16; ++i) {
    for (const auto& warning : watch.Observe({{.load = {14, 0, 13, 13}, .importance = {}}}, 2)) {
      EXPECT_EQ(warning.kind, "dead_experts");
      EXPECT_THAT(warning.text, HasSubstr("layer 0 expert 1 (0 tokens)"));
      ++warnings;
    }
  }
  EXPECT_EQ(warnings, 2);
}

TEST(WatchTest, RoutingWatch_AllExpertsChosenByEveryToken_IsNoCollapse) {
  RoutingWatch watch(Policy());
  for (int i = 0; i < 8; ++i) {
    EXPECT_THAT(watch.Observe({{.load = {20, 20}, .importance = {}}}, 2), IsEmpty());
  }
}

}  // namespace
}  // namespace moe::training
