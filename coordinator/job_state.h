// The life of a job: the one transition table.
#pragma once

#include <optional>
#include <string>

#include "moe/v1/job.pb.h"

namespace moe::coordinator {

// What can happen to a job.
enum class JobChange {
  kNeedsMet,        // every job it needs has succeeded, and it is not held
  kHeld,            // a user holds it back while it waits for slots
  kNeedFailed,      // a job it needs failed or was cancelled
  kPlaced,          // it was given slots
  kRanksUp,         // all ranks have reported
  kStopAsked,       // its ranks were told to stop
  kStopped,         // its ranks are gone after a cancel
  kFinished,        // all ranks finished; of an array: all elements succeeded
  kFailed,          // not to be tried again
  kAnotherAttempt,  // its attempt ended and it is to be tried again
  kCancelled,       // cancelled while nothing runs
};

// The state after `change` in `state`; nullopt where the change cannot happen there.
std::optional<v1::JobState> NextState(v1::JobState state, JobChange change);

// SUCCEEDED, FAILED or CANCELLED: nothing follows.
bool IsEnded(v1::JobState state);
// STARTING, RUNNING or STOPPING: it holds slots.
bool IsPlaced(v1::JobState state);

// "RUNNING".
std::string StateName(v1::JobState state);
// "CAUSE_WORKER_LOST" as "worker lost".
std::string CauseText(v1::Cause cause);

// What a cause means for the job whose attempt it ended.
enum class AfterCause {
  kFail,                 // the end, whatever the budgets say
  kRetryUser,            // the job's own doing: counted against max_user_retries
  kRetryInfrastructure,  // the cluster's doing: counted against max_infrastructure_retries
  kRetryUncounted,       // another attempt; nobody's fault
};
AfterCause DecideAfter(v1::Cause cause);
// Whether the job itself is to blame: such a cause outweighs what else went wrong.
bool IsOwnFault(v1::Cause cause);

}  // namespace moe::coordinator
