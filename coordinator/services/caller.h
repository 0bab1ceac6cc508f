// Who calls, and whether a job is theirs to change.
#pragma once

#include <grpcpp/grpcpp.h>

#include "absl/status/status.h"
#include "common/status.h"
#include "coordinator/access.h"
#include "coordinator/audit_journal.h"
#include "coordinator/core.h"
#include "moe/v1/job.pb.h"

namespace moe::coordinator {

// Where nobody is asked who they are, only the address.
inline Caller CallerOf(const Core& core, const grpc::ServerContextBase& context) {
  Caller caller = core.access == nullptr ? Caller() : core.access->CallerOf(context);
  caller.peer = context.peer();
  return caller;
}

// Submitters change their own jobs, operators everybody's.
inline absl::Status CheckMayChange(const Core& core, const Caller& caller, const v1::Job& job) {
  if (core.access == nullptr || caller.role >= v1::ROLE_OPERATOR || caller.user == job.user()) {
    return absl::OkStatus();
  }
  return PermissionDenied("job {} is of user '{}'; to change it, {} needs the role operator",
                          job.job_id(), job.user(), caller.user);
}

}  // namespace moe::coordinator
