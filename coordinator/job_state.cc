#include "coordinator/job_state.h"

#include <algorithm>
#include <cctype>

namespace moe::coordinator {
namespace {

struct Transition {
  v1::JobState from;
  JobChange change;
  v1::JobState to;
};

// The picture is in proto/moe/v1/job.proto.
constexpr Transition kTransitions[] = {
    {v1::JOB_STATE_PENDING, JobChange::kNeedsMet, v1::JOB_STATE_QUEUED},
    {v1::JOB_STATE_PENDING, JobChange::kNeedFailed, v1::JOB_STATE_FAILED},
    {v1::JOB_STATE_PENDING, JobChange::kFinished, v1::JOB_STATE_SUCCEEDED},
    {v1::JOB_STATE_PENDING, JobChange::kFailed, v1::JOB_STATE_FAILED},
    {v1::JOB_STATE_PENDING, JobChange::kCancelled, v1::JOB_STATE_CANCELLED},
    {v1::JOB_STATE_QUEUED, JobChange::kHeld, v1::JOB_STATE_PENDING},
    {v1::JOB_STATE_QUEUED, JobChange::kPlaced, v1::JOB_STATE_STARTING},
    {v1::JOB_STATE_QUEUED, JobChange::kFailed, v1::JOB_STATE_FAILED},
    {v1::JOB_STATE_QUEUED, JobChange::kCancelled, v1::JOB_STATE_CANCELLED},
    {v1::JOB_STATE_STARTING, JobChange::kRanksUp, v1::JOB_STATE_RUNNING},
    {v1::JOB_STATE_STARTING, JobChange::kStopAsked, v1::JOB_STATE_STOPPING},
    {v1::JOB_STATE_STARTING, JobChange::kFinished, v1::JOB_STATE_SUCCEEDED},
    {v1::JOB_STATE_STARTING, JobChange::kFailed, v1::JOB_STATE_FAILED},
    {v1::JOB_STATE_STARTING, JobChange::kAnotherAttempt, v1::JOB_STATE_QUEUED},
    {v1::JOB_STATE_RUNNING, JobChange::kStopAsked, v1::JOB_STATE_STOPPING},
    {v1::JOB_STATE_RUNNING, JobChange::kFinished, v1::JOB_STATE_SUCCEEDED},
    {v1::JOB_STATE_RUNNING, JobChange::kFailed, v1::JOB_STATE_FAILED},
    {v1::JOB_STATE_RUNNING, JobChange::kAnotherAttempt, v1::JOB_STATE_QUEUED},
    {v1::JOB_STATE_STOPPING, JobChange::kStopped, v1::JOB_STATE_CANCELLED},
    {v1::JOB_STATE_STOPPING, JobChange::kFinished, v1::JOB_STATE_SUCCEEDED},
    {v1::JOB_STATE_STOPPING, JobChange::kFailed, v1::JOB_STATE_FAILED},
    {v1::JOB_STATE_STOPPING, JobChange::kAnotherAttempt, v1::JOB_STATE_QUEUED},
};

std::string WithoutPrefix(const std::string& name, const std::string& prefix) {
  return name.rfind(prefix, 0) == 0 ? name.substr(prefix.size()) : name;
}

}  // namespace

std::optional<v1::JobState> NextState(v1::JobState state, JobChange change) {
  for (const Transition& transition : kTransitions) {
    if (transition.from == state && transition.change == change) return transition.to;
  }
  return std::nullopt;
}

bool IsEnded(v1::JobState state) {
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED ||
         state == v1::JOB_STATE_CANCELLED;
}

bool IsPlaced(v1::JobState state) {
  return state == v1::JOB_STATE_STARTING || state == v1::JOB_STATE_RUNNING ||
         state == v1::JOB_STATE_STOPPING;
}

std::string StateName(v1::JobState state) {
  return WithoutPrefix(v1::JobState_Name(state), "JOB_STATE_");
}

std::string CauseText(v1::Cause cause) {
  std::string text = WithoutPrefix(v1::Cause_Name(cause), "CAUSE_");
  std::replace(text.begin(), text.end(), '_', ' ');
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

AfterCause DecideAfter(v1::Cause cause) {
  switch (cause) {
    case v1::CAUSE_BAD_INPUT:
    case v1::CAUSE_NON_FINITE_LOSS:
    case v1::CAUSE_LOSS_SPIKE:
    case v1::CAUSE_OUT_OF_MEMORY:
      return AfterCause::kRetryUser;
    case v1::CAUSE_NEED_FAILED:
    case v1::CAUSE_NOT_NEEDED:
    case v1::CAUSE_TIME_LIMIT:
      return AfterCause::kFail;
    case v1::CAUSE_DRAINED:
    case v1::CAUSE_LEASE_EXPIRED:
    case v1::CAUSE_PREEMPTED:
      return AfterCause::kRetryUncounted;
    default:
      return AfterCause::kRetryInfrastructure;
  }
}

bool IsOwnFault(v1::Cause cause) {
  const AfterCause after = DecideAfter(cause);
  return after == AfterCause::kFail || after == AfterCause::kRetryUser;
}

}  // namespace moe::coordinator
