// Parameters as views of an arena.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "worker/model/parameters.h"

namespace moe::model {

// The parameter with its shape, sharing the arena's memory. `arena` is any flat vector of the
// layout: parameters, gradients, moments.
inline at::Tensor View(const at::Tensor& arena, const Parameter& parameter) {
  return arena.narrow(0, parameter.offset, parameter.numel).view(parameter.shape);
}

// Copies every parameter that both layouts have; the others of `to_arena` keep their values. Shared
// parameters have equal shapes.
inline void CopyShared(const ParameterLayout& from, const at::Tensor& from_arena,
                       const ParameterLayout& to, at::Tensor& to_arena) {
  for (const Parameter& parameter : to.parameters()) {
    if (!from.Has(parameter.name)) continue;
    View(to_arena, parameter).copy_(View(from_arena, from.Find(parameter.name)));
  }
}

}  // namespace moe::model
