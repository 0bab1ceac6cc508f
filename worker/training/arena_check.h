// Where an arena is damaged, in words.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "worker/model/parameters.h"

namespace moe::training {

// "layers.0.qkv has 1 value of 4096 that is not finite, the first at 17; 2 more parameters have
// some"; empty where all values are finite. `arena` is fp32 [P].
std::string DescribeNonFinite(const model::ParameterLayout& layout, const at::Tensor& arena);

}  // namespace moe::training
