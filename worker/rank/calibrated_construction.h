// construct with `calibrate`: a mixture that is fitted to its dense model.
#pragma once

#include "absl/status/statusor.h"
#include "worker/model/weight_source.h"
#include "worker/rank/construction.h"
#include "worker/rank/job.h"

namespace moe::rank {

// Cuts `dense` by the method of `spec`, which is complete, and fits the experts. spec.calibrate is
// there. CANCELLED where a stop was requested.
absl::StatusOr<Construction> PlanCalibrated(JobContext& context, const ConstructSpec& spec,
                                            const model::WeightSource& dense);

}  // namespace moe::rank
