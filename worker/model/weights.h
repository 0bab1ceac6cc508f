// A model's weights, from any file we read to the flat arena (parameters.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "absl/status/statusor.h"
#include "storage/artefacts/model_config.h"
#include "storage/artefacts/safetensors.h"
#include "worker/model/weight_source.h"

namespace moe::model {

struct LoadedModel {
  artefacts::ModelConfig config;
  // The widest type among the file's tensors; F32 for quantised files and checkpoints.
  artefacts::DType stored_dtype = artefacts::DType::kF32;
  at::Tensor parameters;       // fp32 [P] of the share, on the CPU; padding is zero
  std::string tokenizer_path;  // a GGUF file, or a folder: for sampler's LoadTokenizer
};

// All of it, or what a rank with `share` of the experts holds, decoded one parameter at a time: the
// peak is the arena and one parameter.
LoadedModel ReadAll(const WeightSource& source, const ExpertShare& share = {});

// ReadAll of OpenWeights, with the same errors.
// `which` as in OpenWeights.
absl::StatusOr<LoadedModel> LoadModel(const std::string& path,
                                      WhichWeights which = WhichWeights::kLatest,
                                      const ExpertShare& share = {});

}  // namespace moe::model
