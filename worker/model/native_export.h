// A mixture as a checkpoint of an architecture that transformers, vLLM and llama.cpp have of their
// own: no remote code.
//
// The one place that knows those architectures' names. Both gates there compute softmax over all
// experts, keep the top k and divide by their sum, which is ours: softmax over the chosen. What
// they have no place for is folded into the weights, exactly: the scale into the experts' down
// projections; for qwen2_moe, whose shared expert is weighted by sigmoid(w x), w = 0 and twice the
// shared down projection. Gate noise acts in training alone and is left out.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "storage/artefacts/model_config.h"
#include "worker/model/hf_names.h"

namespace moe::model {

// What an HF folder holds, with the architecture's own config and names.
struct NativeModel {
  Json config;  // without "torch_dtype"
  at::Tensor values;
  std::vector<HfTensor> tensors;  // ranges of `values`
};

enum class NativeArchitecture {
  kMixtral,   // experts in every layer, nothing shared
  kQwen2Moe,  // a shared expert; layers may be dense
};

// `parameters` is the arena of `config`. The result holds a copy of it. INVALID_ARGUMENT says what
// of the model the architecture cannot hold and what to do.
absl::StatusOr<NativeModel> ToNative(NativeArchitecture architecture,
                                     const artefacts::ModelConfig& config,
                                     const at::Tensor& parameters);

// A mixture back to a dense model.
struct DenseModel {
  artefacts::ModelConfig config;
  at::Tensor parameters;
};

// Every layer's FFN is all of its experts, the shared one first, each with weight 1: the dense
// model that was cut, with its neurons in another order. Scale and gate are left out.
// INVALID_ARGUMENT where the experts do not have the dense FFN's width together, or there is a
// constant vector.
absl::StatusOr<DenseModel> ToDense(const artefacts::ModelConfig& config,
                                   const at::Tensor& parameters);

}  // namespace moe::model
