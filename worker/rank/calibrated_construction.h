// construct with `calibrate`: a mixture that is fitted to its dense model.
#pragma once

#include "absl/status/statusor.h"
#include "storage/artefacts/model_config.h"
#include "worker/construction/calibrate.h"
#include "worker/model/weights.h"
#include "worker/rank/constructed.h"
#include "worker/rank/job.h"

namespace moe::rank {

// Fits `plain`, the mixture that `spec` describes without calibration, to `dense`; `split` deals
// the neurons that are not shared. spec.calibrate is there.
absl::StatusOr<Constructed> ConstructCalibrated(JobContext& context, const ConstructSpec& spec,
                                                const model::LoadedModel& dense,
                                                const artefacts::MoeConfig& plain,
                                                const construction::SplitLayer& split);

}  // namespace moe::rank
