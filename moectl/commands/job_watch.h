// Following jobs to their end.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "moe/v1/job.pb.h"
#include "moectl/command_context.h"

namespace moe::moectl {

enum class WatchStyle {
  // A table in place on a terminal, else a line per change.
  kLive,
  // Only "job/j1 succeeded" at the end of each.
  kQuiet,
  // Nothing: what there is to say the caller says.
  kSilent,
};

// Follows `jobs` until all have ended, through restarts of the coordinator and until Ctrl-C.
// kDone, kJobUnsuccessful or kInterrupted.
absl::StatusOr<ExitCode> FollowJobs(const CommandContext& context, CoordinatorClient& client,
                                    const std::vector<moe::v1::Job>& jobs, WatchStyle style);

}  // namespace moe::moectl
