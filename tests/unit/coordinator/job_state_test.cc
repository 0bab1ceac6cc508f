#include "coordinator/job_state.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace moe::coordinator {
namespace {

constexpr JobChange kAllChanges[] = {
    JobChange::kNeedsMet, JobChange::kHeld,           JobChange::kNeedFailed, JobChange::kPlaced,
    JobChange::kRanksUp,  JobChange::kStopAsked,      JobChange::kStopped,    JobChange::kFinished,
    JobChange::kFailed,   JobChange::kAnotherAttempt, JobChange::kCancelled};

// The picture in proto/moe/v1/job.proto, row by row: where each state may lead.
TEST(JobStateTest, NextState_IsThePictureInTheProto) {
  using S = v1::JobState;
  const std::map<S, std::set<S>> expected = {
      {v1::JOB_STATE_PENDING,
       {v1::JOB_STATE_QUEUED, v1::JOB_STATE_CANCELLED, v1::JOB_STATE_FAILED,
        v1::JOB_STATE_SUCCEEDED}},  // an array, when its last element has ended
      // FAILED: an input has gone between the submission and the placement.
      {v1::JOB_STATE_QUEUED,
       {v1::JOB_STATE_STARTING, v1::JOB_STATE_CANCELLED, v1::JOB_STATE_FAILED,
        v1::JOB_STATE_PENDING}},
      {v1::JOB_STATE_STARTING,
       {v1::JOB_STATE_RUNNING, v1::JOB_STATE_STOPPING, v1::JOB_STATE_SUCCEEDED,
        v1::JOB_STATE_FAILED, v1::JOB_STATE_QUEUED}},
      {v1::JOB_STATE_RUNNING,
       {v1::JOB_STATE_STOPPING, v1::JOB_STATE_SUCCEEDED, v1::JOB_STATE_FAILED,
        v1::JOB_STATE_QUEUED}},
      {v1::JOB_STATE_STOPPING,
       {v1::JOB_STATE_CANCELLED, v1::JOB_STATE_QUEUED, v1::JOB_STATE_SUCCEEDED,
        v1::JOB_STATE_FAILED}},
      {v1::JOB_STATE_SUCCEEDED, {}},
      {v1::JOB_STATE_FAILED, {}},
      {v1::JOB_STATE_CANCELLED, {}},
  };
  for (const auto& [from, to] : expected) {
    std::set<S> reachable;
    for (const JobChange change : kAllChanges) {
      if (const auto next = NextState(from, change)) reachable.insert(*next);
    }
    EXPECT_EQ(reachable, to) << StateName(from);
    EXPECT_EQ(IsEnded(from), to.empty()) << StateName(from);
  }
}

TEST(JobStateTest, DecideAfter_RetriesWhatAnotherAttemptMayCure) {
  const std::map<v1::Cause, AfterCause> expected = {
      {v1::CAUSE_BAD_INPUT, AfterCause::kRetryUser},
      {v1::CAUSE_NON_FINITE_LOSS, AfterCause::kRetryUser},
      {v1::CAUSE_LOSS_SPIKE, AfterCause::kRetryUser},
      {v1::CAUSE_OUT_OF_MEMORY, AfterCause::kRetryUser},
      {v1::CAUSE_RANK_DIED, AfterCause::kRetryInfrastructure},
      {v1::CAUSE_WORKER_LOST, AfterCause::kRetryInfrastructure},
      {v1::CAUSE_COLLECTIVE_FAILED, AfterCause::kRetryInfrastructure},
      {v1::CAUSE_STORAGE, AfterCause::kRetryInfrastructure},
      {v1::CAUSE_INTERNAL, AfterCause::kRetryInfrastructure},
      {v1::CAUSE_HUNG, AfterCause::kRetryInfrastructure},
      {v1::CAUSE_TIME_LIMIT, AfterCause::kFail},
      {v1::CAUSE_NOT_NEEDED, AfterCause::kFail},
      {v1::CAUSE_DRAINED, AfterCause::kRetryUncounted},
      {v1::CAUSE_PREEMPTED, AfterCause::kRetryUncounted},
      {v1::CAUSE_LEASE_EXPIRED, AfterCause::kRetryUncounted},
  };
  for (const auto& [cause, after] : expected) {
    EXPECT_EQ(DecideAfter(cause), after) << CauseText(cause);
  }
}

}  // namespace
}  // namespace moe::coordinator
