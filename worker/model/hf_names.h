// What a model's tensors are called in Hugging Face files, and where each lies in our flat arena.
//
// The one place that knows these names (docs/formats/model.md). The layout of the arena
// (parameters.h) is chosen so that every tensor of theirs is one contiguous range of ours: a fused
// matrix is a concatenation by rows, and experts are stacked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "storage/artefacts/model_config.h"
#include "worker/model/parameters.h"

namespace moe::model {

struct HfTensor {
  std::string name;
  std::vector<int64_t> shape;
  int64_t offset = 0;  // first element in the arena
  int64_t numel = 0;
};

// Every tensor of the model, in the order of the arena: dense models with transformers' LLaMA
// names, mixtures of experts with the published LLaMA-MoE names.
std::vector<HfTensor> HfTensors(const artefacts::ModelConfig& config,
                                const ParameterLayout& layout);

// Tensors that files may hold although the model does not need them: buffers that can be computed,
// and an output matrix beside tied embeddings.
bool IsRedundantHfTensor(const artefacts::ModelConfig& config, const std::string& name);

}  // namespace moe::model
