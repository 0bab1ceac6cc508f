#include "coordinator/job_dependencies.h"

#include <algorithm>

#include "coordinator/job_state.h"
#include "coordinator/job_table.h"

namespace moe::coordinator {

std::vector<std::string> DependenciesOf(const v1::Job& job) {
  std::vector<std::string> ids(job.need_job_ids().begin(), job.need_job_ids().end());
  ids.insert(ids.end(), job.after_any_job_ids().begin(), job.after_any_job_ids().end());
  ids.insert(ids.end(), job.after_not_ok_job_ids().begin(), job.after_not_ok_job_ids().end());
  return ids;
}

void AddDependencies(const CompleteJob& complete, uint64_t first, v1::Job* job) {
  const auto id_of = [&](int index) { return FormatJobId(first + static_cast<uint64_t>(index)); };
  const auto add = [](const std::string& id, auto* ids) {
    if (std::find(ids->begin(), ids->end(), id) == ids->end()) *ids->Add() = id;
  };
  for (const int need : complete.needs) add(id_of(need), job->mutable_need_job_ids());
  for (const JobDependency& after : complete.after) {
    const std::string id = after.job >= 0 ? id_of(after.job) : after.job_id;
    switch (after.outcome) {
      case JobOutcome::kOk:
        add(id, job->mutable_need_job_ids());
        break;
      case JobOutcome::kAny:
        add(id, job->mutable_after_any_job_ids());
        break;
      case JobOutcome::kNotOk:
        add(id, job->mutable_after_not_ok_job_ids());
        break;
    }
  }
}

Readiness ReadinessOf(const v1::Job& job,
                      const std::function<const v1::Job&(const std::string& job_id)>& find) {
  Readiness readiness;
  const auto look_at = [&](const auto& ids, bool ok, bool not_ok) {
    for (const std::string& id : ids) {
      const v1::Job& other = find(id);
      if (!IsEnded(other.state())) {
        if (readiness.kind == Readiness::Kind::kReady) readiness.kind = Readiness::Kind::kWaits;
      } else if (!(other.state() == v1::JOB_STATE_SUCCEEDED ? ok : not_ok)) {
        readiness = {Readiness::Kind::kNever, &other};
      }
    }
  };
  look_at(job.need_job_ids(), true, false);
  look_at(job.after_any_job_ids(), true, true);
  look_at(job.after_not_ok_job_ids(), false, true);
  return readiness;
}

v1::JobState FirstState(const v1::Job& job) {
  return DependenciesOf(job).empty() && !IsArray(job) ? v1::JOB_STATE_QUEUED
                                                      : v1::JOB_STATE_PENDING;
}

}  // namespace moe::coordinator
