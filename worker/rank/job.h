// What every job of a rank has at hand, and the jobs: one file each.
//
// A job returns how it ended; errors are statuses or exceptions, which failure.h turns into a
// cause.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "common/run_channel.h"
#include "worker/rank/device.h"
#include "worker/rank/failure.h"
#include "worker/rank/run_spec.h"

namespace moe::rank {

struct JobContext {
  RunChannel& channel;
  const RunSpec& run;
  const Device& device;
  const std::string& host;  // of this rank, as the other ranks reach it
};

absl::StatusOr<JobOutcome> RunConstructJob(JobContext& context);
absl::StatusOr<JobOutcome> RunTrainJob(JobContext& context);
absl::StatusOr<JobOutcome> RunEvaluateJob(JobContext& context);
absl::StatusOr<JobOutcome> RunExportJob(JobContext& context);

// Runs the job of `context.run.kind`; every kind but train runs on one rank.
absl::StatusOr<JobOutcome> RunJob(JobContext& context);

// How a job ends whose hand-in was not accepted with `status`: stopped where a stop was requested
// meanwhile, else the error.
absl::StatusOr<JobOutcome> StoppedOr(RunChannel& channel, const absl::Status& status);

// A `progress` report.
void ReportProgress(RunChannel& channel, int64_t done, int64_t total, const std::string& unit,
                    const std::string& phase);

}  // namespace moe::rank
