// Weights for a run from scratch: the comparison to a model that was built from a dense one.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "worker/model/parameters.h"

namespace moe::training {

// fp32 [P]: matrices are normal with the published models' `initializer_range` of 0.02, norm
// weights 1, the gates' noise weights 0. A function of the seed alone.
at::Tensor RandomStart(const model::ParameterLayout& layout, uint64_t seed);

}  // namespace moe::training
