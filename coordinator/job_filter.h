// Which jobs a list wants.
#pragma once

#include "moe/v1/job_service.pb.h"

namespace moe::coordinator {

bool IsWanted(const v1::ListJobsRequest& request, const v1::Job& job);

}  // namespace moe::coordinator
