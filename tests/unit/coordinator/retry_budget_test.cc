#include "coordinator/retry_budget.h"

#include <gtest/gtest.h>

namespace moe::coordinator {
namespace {

constexpr Backoff kBackoff = {.first_ms = 1000, .longest_ms = 5000};

v1::Job JobWith(int32_t user, int32_t infrastructure) {
  v1::Job job;
  job.mutable_spec()->set_max_user_retries(user);
  job.mutable_spec()->set_max_infrastructure_retries(infrastructure);
  return job;
}

TEST(RetryBudgetTest, EachBudget_IsCountedByItself) {
  v1::Job job = JobWith(1, 1);
  EXPECT_TRUE(CountFailure(v1::CAUSE_OUT_OF_MEMORY, kBackoff, &job).again);
  EXPECT_TRUE(CountFailure(v1::CAUSE_WORKER_LOST, kBackoff, &job).again);
  EXPECT_EQ(job.user_failures(), 1);
  EXPECT_EQ(job.infrastructure_failures(), 1);
  const Retry user = CountFailure(v1::CAUSE_BAD_INPUT, kBackoff, &job);
  EXPECT_FALSE(user.again);
  EXPECT_EQ(user.limit, "max_user_retries=1");
  const Retry infrastructure = CountFailure(v1::CAUSE_HUNG, kBackoff, &job);
  EXPECT_FALSE(infrastructure.again);
  EXPECT_EQ(infrastructure.limit, "max_infrastructure_retries=1");
}

TEST(RetryBudgetTest, WithoutABudgetOfItsOwn_AUsersMistakeEndsTheJob) {
  v1::Job job = JobWith(0, 10);
  EXPECT_FALSE(CountFailure(v1::CAUSE_NON_FINITE_LOSS, kBackoff, &job).again);
}

TEST(RetryBudgetTest, NobodysFault_CostsNothingAndDoesNotWait) {
  v1::Job job = JobWith(0, 0);
  for (const v1::Cause cause : {v1::CAUSE_PREEMPTED, v1::CAUSE_DRAINED, v1::CAUSE_LEASE_EXPIRED}) {
    const Retry retry = CountFailure(cause, kBackoff, &job);
    EXPECT_TRUE(retry.again);
    EXPECT_EQ(retry.delay_ms, 0);
  }
  EXPECT_EQ(job.user_failures() + job.infrastructure_failures(), 0);
}

TEST(RetryBudgetTest, TheTimeLimit_IsTheEndWhateverIsLeft) {
  v1::Job job = JobWith(10, 10);
  EXPECT_FALSE(CountFailure(v1::CAUSE_TIME_LIMIT, kBackoff, &job).again);
}

TEST(RetryBudgetTest, Backoff_DoublesUpToItsLongest) {
  v1::Job job = JobWith(0, 100);
  for (const int64_t delay_ms : {1000, 2000, 4000, 5000, 5000}) {
    EXPECT_EQ(CountFailure(v1::CAUSE_RANK_DIED, kBackoff, &job).delay_ms, delay_ms);
  }
  while (job.infrastructure_failures() < 90) {
    EXPECT_EQ(CountFailure(v1::CAUSE_RANK_DIED, kBackoff, &job).delay_ms, 5000);
  }
}

TEST(RetryBudgetTest, PreemptedOftenEnough_KeepsItsSlots) {
  v1::Job job;
  EXPECT_TRUE(MayBePreempted(job));
  job.set_preemptions(1000);
  EXPECT_TRUE(MayBePreempted(job)) << "there is no limit by default";
  job.mutable_spec()->set_max_preemptions(1001);
  EXPECT_TRUE(MayBePreempted(job));
  job.mutable_spec()->set_max_preemptions(1000);
  EXPECT_FALSE(MayBePreempted(job));
  job.mutable_spec()->clear_max_preemptions();
  job.mutable_spec()->mutable_resources()->set_preemptible(false);
  EXPECT_FALSE(MayBePreempted(job));
}

}  // namespace
}  // namespace moe::coordinator
