// Which ways to share out a model's experts among ranks there are. Pure.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "storage/artefacts/model_config.h"

namespace moe::planner {

// That `ranks` ranks form groups of `expert_parallel`. INVALID_ARGUMENT with the numbers and those
// that would do.
absl::Status CheckExpertGroups(int64_t expert_parallel, int64_t ranks);

// That every rank of a group can hold an equal part of the experts. INVALID_ARGUMENT likewise, and
// for a model without experts.
absl::Status CheckExpertShares(const artefacts::ModelConfig& model, int64_t expert_parallel);

// The largest that both accept; 1 where there is no other.
int64_t LargestExpertParallel(const artefacts::ModelConfig& model, int64_t ranks);

}  // namespace moe::planner
