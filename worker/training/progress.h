// Where a run is: progress.json of a checkpoint (docs/formats/checkpoint.md).
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "sampler/sample_sequence.h"
#include "worker/training/watch.h"

namespace moe::training {

struct Progress {
  int64_t step = 0;    // done
  int64_t tokens = 0;  // consumed
  int world_size = 1;  // of the run that wrote it
  uint64_t seed = 0;
  sampler::SampleSequence::Cursor data_cursor;
  uint32_t dataset_manifest_crc32c = 0;
  int64_t sampler_version = 0;
  WatchState watch = {};
};

inline constexpr char kProgressFile[] = "progress.json";

Json ToJson(const Progress& progress);
// INVALID_ARGUMENT names the field where one is missing or of the wrong type.
absl::StatusOr<Progress> ParseProgress(const Json& json, const std::string& path);

}  // namespace moe::training
