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
};

// Follows `jobs` until all have ended, through restarts of the coordinator and until Ctrl-C.
// kDone, kJobUnsuccessful or kInterrupted. `again` is what the user would watch again, "p4".
absl::StatusOr<ExitCode> FollowJobs(const CommandContext& context, CoordinatorClient& client,
                                    const std::vector<moe::v1::Job>& jobs, WatchStyle style,
                                    const std::string& again);

}  // namespace moe::moectl
