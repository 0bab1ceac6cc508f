// The text that a construction is fitted to.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "absl/status/statusor.h"
#include "sampler/dataset.h"

namespace moe::construction {

// About `tokens` training tokens of `dataset` in samples of `sequence_length`, at least one: equal
// shares of all domains that are long enough, evenly spread over each. int64 [B, S].
// INVALID_ARGUMENT where no domain has one sample.
absl::StatusOr<at::Tensor> CalibrationSample(const sampler::Dataset& dataset, int64_t tokens,
                                             int64_t sequence_length);

}  // namespace moe::construction
