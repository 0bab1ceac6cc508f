// construct with `calibrate`: a mixture that is fitted to its dense model.
#pragma once

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "storage/artefacts/model_config.h"
#include "worker/construction/calibrate.h"
#include "worker/model/weights.h"
#include "worker/rank/job.h"

namespace moe::rank {

// A mixture with what its manifest says of how it was made.
struct Constructed {
  artefacts::ModelConfig config;
  at::Tensor parameters;  // undefined where a stop was requested
  Json calibration;       // null without
};

// Fits `plain`, the mixture that `spec` describes without calibration, to `dense`; `split` deals
// the neurons that are not shared. spec.calibrate is there.
absl::StatusOr<Constructed> ConstructCalibrated(JobContext& context, const ConstructSpec& spec,
                                                const model::LoadedModel& dense,
                                                const artefacts::MoeConfig& plain,
                                                const construction::SplitLayer& split);

}  // namespace moe::rank
