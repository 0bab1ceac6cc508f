// How much arithmetic a model asks for. Pure.
#pragma once

#include <cstdint>

#include "storage/artefacts/model_config.h"

namespace moe::planner {

// Floating-point operations of the forward pass per token; a multiply and an add are two. Only
// matrix products count, with the parameters that a token meets, and attention over the positions
// before it (causal, on average half of the sequence).
struct Flops {
  double dense = 0;      // attention projections, dense and shared FFNs, gates
  double experts = 0;    // top_k experts
  double attention = 0;  // scores and their products with the values
  double head = 0;       // output matrix

  double Forward() const { return dense + experts + attention + head; }
  // The backward pass is twice the forward; nothing that is computed again counts.
  double PerTrainedToken() const { return 3 * Forward(); }
};

Flops CountFlops(const artefacts::ModelConfig& config, int64_t sequence_length);

}  // namespace moe::planner
