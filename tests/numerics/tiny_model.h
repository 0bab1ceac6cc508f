// A model small enough that every gradient can be looked at.
#pragma once

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <string>

#include "storage/artefacts/model_config.h"
#include "worker/model/parameters.h"

namespace moe::model::testing {

inline artefacts::ModelConfig TinyDense() {
  artefacts::ModelConfig config;
  config.vocab_size = 61;
  config.hidden_size = 24;
  config.intermediate_size = 40;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 6;
  config.context_length = 128;
  config.tie_word_embeddings = true;
  return config;
}

inline artefacts::ModelConfig TinyMoe() {
  artefacts::ModelConfig config = TinyDense();
  config.moe.num_experts = 5;
  config.moe.top_k = 2;
  config.moe.expert_width = 8;
  config.moe.score_scale_factor = 2.5;
  // Large enough that an error in its gradient cannot hide behind that of the loss.
  config.moe.balance_loss_weight = 0.5;
  return config;
}

// Everything that a mixture can have beyond the published ones: layer 1 is left dense.
inline artefacts::ModelConfig TinyExtendedMoe() {
  artefacts::ModelConfig config = TinyMoe();
  config.num_layers = 3;
  config.moe.shared_width = 12;
  config.moe.dense_layers = {1};
  config.moe.output_bias = true;
  return config;
}

// Weights of a size at which every part matters: products keep the scale of their inputs.
inline at::Tensor RandomParameters(const ParameterLayout& layout, int64_t seed) {
  at::manual_seed(seed);
  at::Tensor parameters = at::zeros({layout.arena_numel()}, at::kFloat);
  for (const Parameter& parameter : layout.parameters()) {
    at::Tensor values = at::randn(parameter.shape, at::kFloat);
    if (parameter.shape.size() == 1) {
      values.mul_(0.2).add_(1.0);  // norms
    } else {
      values.div_(std::sqrt(static_cast<double>(parameter.shape.back())));
    }
    parameters.narrow(0, parameter.offset, parameter.numel).copy_(values.view({-1}));
  }
  return parameters;
}

inline at::Tensor RandomTokens(int64_t batch, int64_t sequence, int64_t vocab_size, int64_t seed) {
  at::manual_seed(seed);
  return at::randint(vocab_size, {batch, sequence}, at::kLong);
}

}  // namespace moe::model::testing
