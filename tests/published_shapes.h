// Models whose sizes are published, for tests and benchmarks.
#pragma once

#include "storage/artefacts/model_config.h"

namespace moe::published {

inline artefacts::ModelConfig SmolLm2() {
  artefacts::ModelConfig config;
  config.vocab_size = 49152;
  config.hidden_size = 576;
  config.intermediate_size = 1536;
  config.num_layers = 30;
  config.num_heads = 9;
  config.num_kv_heads = 3;
  config.head_dim = 64;
  config.context_length = 8192;
  config.rope_theta = 100000.0;
  config.tie_word_embeddings = true;
  return config;
}

inline artefacts::ModelConfig Llama7B() {
  artefacts::ModelConfig config;
  config.vocab_size = 32000;
  config.hidden_size = 4096;
  config.intermediate_size = 11008;
  config.num_layers = 32;
  config.num_heads = 32;
  config.num_kv_heads = 32;
  config.head_dim = 128;
  config.context_length = 4096;
  return config;
}

// A mixture of the same width: every expert `intermediate_size / experts` wide.
inline artefacts::ModelConfig Split(artefacts::ModelConfig config, int64_t experts, int64_t top_k) {
  config.moe.num_experts = experts;
  config.moe.top_k = top_k;
  config.moe.expert_width = config.intermediate_size / experts;
  return config;
}

}  // namespace moe::published
