// The stream of JobService.ReadLogs.
#pragma once

#include <grpcpp/grpcpp.h>

#include "coordinator/audit_journal.h"
#include "coordinator/core.h"
#include "moe/v1/job_service.pb.h"

namespace moe::coordinator {

// Starts a stream that owns itself until gRPC is done with it.
grpc::ServerWriteReactor<v1::ReadLogsResponse>* StartLogStream(const Core& core,
                                                               const Caller& caller,
                                                               const v1::ReadLogsRequest& request);

}  // namespace moe::coordinator
