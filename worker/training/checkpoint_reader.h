// Training state from disk (docs/formats/checkpoint.md), for any number of ranks.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/model/parameters.h"
#include "worker/parallel/communicator.h"
#include "worker/training/progress.h"

namespace moe::training {

// What one rank needs to go on; P elements of its arena, of which it owns some.
struct LoadedState {
  Progress progress;
  at::Tensor parameters;  // fp32 [P]
  at::Tensor exp_avg;     // fp32 [owned]
  at::Tensor exp_avg_sq;  // fp32 [owned]
  at::Tensor average;     // fp32 [owned], of the parameters; undefined where there is none
};

// Reads a checkpoint: the parameters of `layout`, and moments and average of its ranges `owned`,
// one after the other. Every file that is read has its CRC-32C checked. DATA_LOSS names the file;
// INVALID_ARGUMENT where the model is of another size than the layout's.
absl::StatusOr<LoadedState> LoadCheckpoint(const std::string& path, uint32_t manifest_crc32c,
                                           const model::ParameterLayout& layout,
                                           const std::vector<parallel::Range>& owned);

}  // namespace moe::training
