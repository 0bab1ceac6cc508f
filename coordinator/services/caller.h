// Who calls, and whether a job is theirs to change.
#pragma once

#include <grpcpp/grpcpp.h>

#include "absl/status/status.h"
#include "common/status.h"
#include "coordinator/access.h"
#include "coordinator/core.h"
#include "moe/v1/job.pb.h"

namespace moe::coordinator {

// Empty on a coordinator that asks nobody who they are.
inline Access::Caller CallerOf(const Core& core, const grpc::CallbackServerContext& context) {
  return core.access == nullptr ? Access::Caller() : core.access->CallerOf(context);
}

// Submitters change their own jobs, operators everybody's.
inline absl::Status CheckMayChange(const Core& core, const Access::Caller& caller,
                                   const v1::Job& job) {
  if (core.access == nullptr || caller.role >= v1::ROLE_OPERATOR || caller.user == job.user()) {
    return absl::OkStatus();
  }
  return PermissionDenied("job {} is of user '{}'; to change it, {} needs the role operator",
                          job.job_id(), job.user(), caller.user);
}

}  // namespace moe::coordinator
