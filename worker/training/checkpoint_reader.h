// Training state from disk (docs/formats/checkpoint.md), for any number of ranks.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "worker/parallel/communicator.h"
#include "worker/training/progress.h"

namespace moe::training {

// What one rank needs to go on; P elements of the arena.
struct LoadedState {
  Progress progress;
  at::Tensor parameters;  // fp32 [P]
  at::Tensor exp_avg;     // fp32 [range]
  at::Tensor exp_avg_sq;  // fp32 [range]
  at::Tensor average;     // fp32 [range], of the parameters; undefined where there is none
};

// Reads a checkpoint: the whole of the parameters, and moments and average of `range`. Every file
// that is read has its CRC-32C checked. DATA_LOSS names the file; INVALID_ARGUMENT where the arena
// has another length than `arena_numel`, i.e. the model is another one.
absl::StatusOr<LoadedState> LoadCheckpoint(const std::string& path, uint32_t manifest_crc32c,
                                           int64_t arena_numel, parallel::Range range);

}  // namespace moe::training
