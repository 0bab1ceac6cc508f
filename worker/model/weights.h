// A model's weights, from any file we read to the flat arena (parameters.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "absl/status/statusor.h"
#include "storage/artefacts/model_config.h"
#include "storage/artefacts/safetensors.h"

namespace moe::model {

struct LoadedModel {
  artefacts::ModelConfig config;
  // The widest type among the file's tensors; F32 for quantised files and checkpoints.
  artefacts::DType stored_dtype = artefacts::DType::kF32;
  at::Tensor parameters;       // fp32 [P], on the CPU; padding is zero
  std::string tokenizer_path;  // a GGUF file, or a folder: for sampler's LoadTokenizer
};

// Reads what is at `path`: a GGUF file, a Hugging Face folder (model.safetensors, or shards with an
// index; F32, F16, BF16) or one of our checkpoints (docs/formats/checkpoint.md). Tensors are
// decoded from the mapped file straight into the arena, one at a time, so the peak is the arena
// alone.
//
// NOT_FOUND where there is nothing; INVALID_ARGUMENT or DATA_LOSS naming file, tensor, what was
// found and what the config asks for: a missing, extra, repeated or wrongly shaped tensor, a type
// that holds no weights, a checkpoint whose pieces do not cover the arena once.
absl::StatusOr<LoadedModel> LoadModel(const std::string& path);

}  // namespace moe::model
