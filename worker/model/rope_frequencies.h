// How fast each pair of a head turns from one position to the next. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "storage/artefacts/model_config.h"

namespace moe::model {

// In radians, [head_dim / 2]: theta^(-2 i / head_dim), changed by the config's scaling for longer
// sequences as transformers has it (modeling_rope_utils.py). `longest` is the number of positions
// of the longest sample in the batch, on which "dynamic" depends.
std::vector<double> RopeFrequencies(const artefacts::ModelConfig& config, int64_t longest);

}  // namespace moe::model
