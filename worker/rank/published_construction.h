// construct without `calibrate`: the methods of the paper and of its published code.
#pragma once

#include "absl/status/statusor.h"
#include "storage/artefacts/model_config.h"
#include "worker/model/weights.h"
#include "worker/rank/constructed.h"
#include "worker/rank/job.h"

namespace moe::rank {

// The mixture's part of the config that `spec`, whose method is complete, describes.
artefacts::MoeConfig ToMoeConfig(const ConstructSpec& spec, const artefacts::ModelConfig& dense);

// Cuts `dense` by the method of `spec`, which is complete; a narrower dense model where it prunes.
absl::StatusOr<Constructed> ConstructAsPublished(JobContext& context, const ConstructSpec& spec,
                                                 const model::LoadedModel& dense);

}  // namespace moe::rank
