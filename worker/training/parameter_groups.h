// Which parameters a job's settings for a group are about.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "worker/model/parameters.h"
#include "worker/parallel/communicator.h"

namespace moe::training {

// "embeddings" (with the output matrix), "attention", "ffn", "gates" or "norms".
std::string GroupOf(const model::Parameter& parameter);

// Factor on the learning rate by group; 1 for a group that is not there, 0 freezes.
using LearningRateRatios = std::map<std::string, double>;

double RatioOf(const LearningRateRatios& ratios, const model::Parameter& parameter);

// Sets the gradients of frozen parameters to zero, so that they count neither in the norm nor in
// the moments. `gradients` is the whole arena, of which the elements in `range` are looked at.
void ClearFrozen(const model::ParameterLayout& layout, const LearningRateRatios& ratios,
                 parallel::Range range, const at::Tensor& gradients);

}  // namespace moe::training
