// JobService.EstimatePipeline: what the train jobs of a pipeline would need.
#pragma once

#include "coordinator/core.h"
#include "coordinator/services/unary.h"
#include "moe/v1/job_service.pb.h"

namespace moe::coordinator {

// Fills `response` and calls `finish`, from other threads. Both messages live until then.
void EstimatePipeline(const Core& core, const v1::EstimatePipelineRequest& request,
                      v1::EstimatePipelineResponse* response, const Finish& finish);

}  // namespace moe::coordinator
