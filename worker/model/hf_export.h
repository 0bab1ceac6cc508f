// A model's weights, from the flat arena to a Hugging Face folder.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "storage/artefacts/model_config.h"
#include "storage/artefacts/safetensors.h"
#include "worker/model/hf_writer.h"
#include "worker/model/native_export.h"

namespace moe::model {

// Writes config.json, generation_config.json and the weights as `dtype` into `folder`, which
// exists: model.safetensors, or shards of at most `max_shard_bytes` (at least one tensor each) and
// their index. Everything is synced. No tokenizer, no manifest. The peak is the arena and one
// tensor.
//
// INVALID_ARGUMENT naming tensor and value where a weight is beyond the range of `dtype`.
absl::Status SaveHfFolder(const artefacts::ModelConfig& config, const at::Tensor& parameters,
                          artefacts::DType dtype, const std::string& folder,
                          uint64_t max_shard_bytes = kMaxShardBytes);

// config.json and generation_config.json alone, beside weights that an HfWriter writes.
absl::Status SaveHfConfig(const artefacts::ModelConfig& config, artefacts::DType dtype,
                          const std::string& folder);

// Reads a folder that SaveHfFolder wrote with our own reader and compares config and every tensor,
// bit for bit, with `parameters` cast to `dtype`. DATA_LOSS names the first difference.
absl::Status CheckHfFolder(const artefacts::ModelConfig& config, const at::Tensor& parameters,
                           artefacts::DType dtype, const std::string& folder);

// The same for a model of another architecture.
absl::Status SaveNativeFolder(const NativeModel& model, artefacts::DType dtype,
                              const std::string& folder, uint64_t max_shard_bytes = kMaxShardBytes);
absl::Status CheckNativeFolder(const NativeModel& model, artefacts::DType dtype,
                               const std::string& folder);

}  // namespace moe::model
