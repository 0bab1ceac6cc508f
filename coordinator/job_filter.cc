#include "coordinator/job_filter.h"

#include <algorithm>
#include <string>

namespace moe::coordinator {

bool IsWanted(const v1::ListJobsRequest& request, const v1::Job& job) {
  const auto& states = request.states();
  if (!states.empty() && std::find(states.begin(), states.end(), job.state()) == states.end()) {
    return false;
  }
  if (!request.pipeline_id().empty() && job.pipeline_id() != request.pipeline_id()) return false;
  if (!request.user().empty() && job.user() != request.user()) return false;
  if (!request.array_job_id().empty() && job.array_job_id() != request.array_job_id()) return false;
  const std::string& queue = job.spec().queue();
  if (!request.queue().empty() && queue != request.queue() &&
      !queue.starts_with(request.queue() + "/")) {
    return false;
  }
  const auto& labels = job.spec().labels();
  return std::all_of(request.labels().begin(), request.labels().end(), [&](const auto& wanted) {
    const auto it = labels.find(wanted.first);
    return it != labels.end() && it->second == wanted.second;
  });
}

}  // namespace moe::coordinator
