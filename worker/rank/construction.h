// What a construct job is about to make: decided, and not yet written.
#pragma once

#include <string>
#include <vector>

#include "common/json.h"
#include "storage/artefacts/model_config.h"
#include "worker/construction/build.h"
#include "worker/construction/importance_split.h"

namespace moe::rank {

struct Construction {
  artefacts::ModelConfig config = {};
  construction::BuildOptions options = {};
  construction::PlanLayer plan_layer = {};
  // Per layer, where importance was measured; for the report.
  std::vector<construction::Scores> scores = {};
  Json calibration = {};  // for the manifest; null without
};

}  // namespace moe::rank
