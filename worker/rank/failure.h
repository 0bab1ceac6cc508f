// How a rank ends, and the one place where exceptions of tensor code become a typed cause.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "common/run_channel.h"

namespace moe::rank {

// What a job says when it ends without an error.
struct JobOutcome {
  StopReason stopped = StopReason::kNone;  // kNone: it is done
  std::string summary;                     // one line of results, where it is done
};

struct Failure {
  std::string cause;  // the name of a moe.v1.Cause: decides whether there is another attempt
  std::string error;
};

// Bad input (INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION, DATA_LOSS, UNIMPLEMENTED) is never
// retried; storage (RESOURCE_EXHAUSTED, PERMISSION_DENIED, UNAVAILABLE) is.
Failure FailureOf(const absl::Status& status);

// The exception in flight. Call it in a catch block only.
Failure CurrentExceptionFailure();

// Reports `failed` and ends the process where it stands, without destructors: for a job one of
// whose threads may wait for a rank that is gone.
[[noreturn]] void FailNow(RunChannel& channel, const Failure& failure);

// Runs a job, reports how it ended (`finished`, `stopped` or `failed`) and returns the exit code of
// the process: 0 for the first two, 1 for a failure.
int RunToEnd(RunChannel& channel, const std::function<absl::StatusOr<JobOutcome>()>& job);

}  // namespace moe::rank
