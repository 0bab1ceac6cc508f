// How an attempt that did not succeed ended: which rank's end was the cause of the others'.
#pragma once

#include <cstdint>
#include <string>

#include "coordinator/attempt.h"
#include "moe/v1/job.pb.h"
#include "moe/v1/worker_service.pb.h"

namespace moe::coordinator {

struct Failure {
  v1::Cause cause = v1::CAUSE_UNSPECIFIED;
  std::string reason;
};

// "rank 1 was ended by signal 9 (Killed)".
std::string ExitText(int32_t rank, const v1::RankExited& exited);

// The failure of an attempt none of whose ranks will change any more.
Failure WorstFailure(const Attempt& attempt);

}  // namespace moe::coordinator
