// How often a job is tried again: one budget for each kind of failure (JobSpec.max_*). Pure.
#pragma once

#include <cstdint>
#include <string>

#include "moe/v1/job.pb.h"

namespace moe::coordinator {

// The wait for another attempt (moe-coordinator --retry-backoff-ms, --max-retry-backoff-ms).
struct Backoff {
  int64_t first_ms = 1000;  // doubles with each failure of the same kind
  int64_t longest_ms = 30000;
};

struct Retry {
  bool again = false;
  int64_t delay_ms = 0;
  std::string limit;  // where a budget is used up: "max_user_retries=0"
};

// An attempt has ended for this cause: counts it, and says whether there is another one. A failure
// that is the user's and one that is the cluster's have their own counts; an end that is nobody's
// (pre-emption, drain) has none, and no delay.
Retry CountFailure(v1::Cause cause, const Backoff& backoff, v1::Job* job);

// Whether the scheduler may still take the job's slots.
bool MayBePreempted(const v1::Job& job);

}  // namespace moe::coordinator
