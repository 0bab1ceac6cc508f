#pragma once

#include <cstdint>
#include <string>

#include "coordinator/retry_budget.h"
#include "coordinator/scheduler/snapshot.h"

namespace moe::coordinator {

// Settings of the supervisor and its parts.
struct SupervisorOptions {
  std::string artefact_root;
  int32_t stop_grace_ms = 10000;  // between the wish to stop and the kill
  Backoff retry_backoff;
  // Between a pre-emption and the kill: a step, and the writing of a checkpoint.
  int32_t preempt_grace_ms = 300000;
  // A job avoids a worker on which so many of its attempts failed, while others could hold it.
  int32_t failures_to_avoid_worker = 2;
  SchedulePolicy policy;
};

}  // namespace moe::coordinator
