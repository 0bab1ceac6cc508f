// construct without `calibrate`: the methods of the paper and of its published code.
#pragma once

#include "absl/status/statusor.h"
#include "worker/model/weight_source.h"
#include "worker/rank/construction.h"
#include "worker/rank/job.h"

namespace moe::rank {

// How `dense` is cut by the method of `spec`, which is complete; to a narrower dense model where it
// prunes. Methods that read no text look at the weights when their layer's turn comes. The result
// refers to `spec` and `dense`. CANCELLED where a stop was requested.
absl::StatusOr<Construction> PlanAsPublished(JobContext& context, const ConstructSpec& spec,
                                             const model::WeightSource& dense);

}  // namespace moe::rank
