// JobService.PlanPipeline: what would become of a pipeline that was submitted now.
#pragma once

#include <string>

#include "coordinator/core.h"
#include "coordinator/services/unary.h"
#include "moe/v1/job_service.pb.h"

namespace moe::coordinator {

// Fills `response` and calls `finish`, from other threads. Both messages live until then.
void PlanPipeline(const Core& core, const v1::PlanPipelineRequest& request, const std::string& user,
                  v1::PlanPipelineResponse* response, const Finish& finish);

}  // namespace moe::coordinator
