// What jobs mean for each other: who waits for whose end, and what that end allows.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "coordinator/job_spec.h"
#include "moe/v1/job.pb.h"

namespace moe::coordinator {

// Every job that must have ended, some way or other, before this one.
std::vector<std::string> DependenciesOf(const v1::Job& job);

// Writes what the spec says into the job. `first` is the number of the pipeline's first job.
void AddDependencies(const CompleteJob& complete, uint64_t first, v1::Job* job);

// What the jobs that a job depends on mean for it.
struct Readiness {
  enum class Kind { kReady, kWaits, kNever } kind = Kind::kReady;
  const v1::Job* never = nullptr;  // for kNever: whose outcome forbids it
};
Readiness ReadinessOf(const v1::Job& job,
                      const std::function<const v1::Job&(const std::string& job_id)>& find);

inline bool IsArray(const v1::Job& job) { return job.spec().has_array(); }

// Of a job that was just submitted. An array is PENDING until all of its elements have ended.
v1::JobState FirstState(const v1::Job& job);

}  // namespace moe::coordinator
