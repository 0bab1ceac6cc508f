// Weights for a run from scratch: the comparison to a model that was built from a dense one.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "storage/artefacts/model_config.h"
#include "worker/model/parameters.h"

namespace moe::training {

// fp32 [P] of the share: matrices are normal with the published models' `initializer_range` of
// 0.02, norm weights 1, the gates' noise weights and output biases 0, learned scales the constant
// factor. A function of shape and seed; of the experts those of `share`.
at::Tensor RandomStart(const artefacts::ModelConfig& config, uint64_t seed,
                       const model::ExpertShare& share = {});

}  // namespace moe::training
