#include "coordinator/retry_budget.h"

#include <fmt/format.h>

#include <algorithm>

#include "coordinator/job_state.h"

namespace moe::coordinator {
namespace {

Retry Within(const char* field, int32_t limit, int32_t failures, const Backoff& backoff) {
  if (failures > limit) return {.limit = fmt::format("{}={}", field, limit)};
  const int doublings = std::min(failures - 1, 20);
  return {.again = true, .delay_ms = std::min(backoff.longest_ms, backoff.first_ms << doublings)};
}

}  // namespace

Retry CountFailure(v1::Cause cause, const Backoff& backoff, v1::Job* job) {
  switch (DecideAfter(cause)) {
    case AfterCause::kFail:
      return {};
    case AfterCause::kRetryUncounted:
      return {.again = true};
    case AfterCause::kRetryUser:
      job->set_user_failures(job->user_failures() + 1);
      return Within("max_user_retries", job->spec().max_user_retries(), job->user_failures(),
                    backoff);
    case AfterCause::kRetryInfrastructure:
      job->set_infrastructure_failures(job->infrastructure_failures() + 1);
      return Within("max_infrastructure_retries", job->spec().max_infrastructure_retries(),
                    job->infrastructure_failures(), backoff);
  }
  return {};
}

bool MayBePreempted(const v1::Job& job) {
  const v1::JobSpec& spec = job.spec();
  if (spec.resources().has_preemptible() && !spec.resources().preemptible()) return false;
  return !spec.has_max_preemptions() || job.preemptions() < spec.max_preemptions();
}

}  // namespace moe::coordinator
