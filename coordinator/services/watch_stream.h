// The stream of JobService.WatchJobs.
#pragma once

#include <grpcpp/grpcpp.h>

#include "coordinator/audit_journal.h"
#include "coordinator/core.h"
#include "coordinator/services/change_feed.h"

namespace moe::coordinator {

// Starts a stream that owns itself until gRPC is done with it. `request`: a WatchJobsRequest.
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartWatchStream(const Core& core, ChangeFeed* feed,
                                                             Caller caller,
                                                             const grpc::ByteBuffer& request);

}  // namespace moe::coordinator
