#include "planner/flops.h"

#include <string>

#include "worker/model/parameters.h"

namespace moe::planner {

Flops CountFlops(const artefacts::ModelConfig& config, int64_t sequence_length) {
  const model::ParameterLayout layout(config);
  // Matrices that every token meets. Looking up an embedding is no product, but a tied one is the
  // output matrix as well.
  const std::string head_name = config.tie_word_embeddings ? "embed" : "lm_head";
  int64_t dense = 0, head = 0, elsewhere = 0;
  for (const model::Parameter& parameter : layout.parameters()) {
    const bool is_expert = parameter.name.find("experts.") != std::string::npos;
    const bool is_vector = parameter.shape.size() < 2;
    if (parameter.name == head_name) {
      head = parameter.numel;
    } else if (parameter.name != "embed" && !is_expert && !is_vector) {
      dense += parameter.numel;
    }
    if (!is_expert) elsewhere += parameter.numel;
  }
  const int64_t experts = layout.active_parameters() - elsewhere;
  return {.dense = 2.0 * static_cast<double>(dense),
          .experts = 2.0 * static_cast<double>(experts),
          .attention = 2.0 * static_cast<double>(config.num_layers) *
                       static_cast<double>(config.num_heads * config.head_dim) *
                       static_cast<double>(sequence_length),
          .head = 2.0 * static_cast<double>(head)};
}

}  // namespace moe::planner
