// What a construct job makes, before it is written.
#pragma once

#include <ATen/core/Tensor.h>

#include "common/json.h"
#include "storage/artefacts/model_config.h"

namespace moe::rank {

// A model with what its manifest says of how it was made.
struct Constructed {
  artefacts::ModelConfig config;
  at::Tensor parameters;  // undefined where a stop was requested
  Json calibration;       // null without
  Json table;             // per layer, what was cut; null with calibration
};

}  // namespace moe::rank
