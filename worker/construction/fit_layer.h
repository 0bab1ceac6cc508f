// One dense FFN whose shared and routed experts are made to come as near to it as they can on a
// sample of tokens, in closed form.
//
// T tokens, d hidden size, I width of the dense FFN, m of the shared expert, N routed experts of
// width n, k of them per token.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "worker/construction/partition.h"

namespace moe::construction {

struct FitOptions {
  int64_t top_k = 0;  // k
  // Adds to the shared expert's down projection what its neurons can predict of the rest.
  bool compensate = true;
  // The same for every routed expert, on the tokens that it is sent.
  bool fit_experts = false;
  // Adds a constant vector that restores the mean of the rest.
  bool mean_vector = false;
};

// The FFN on the sample.
struct DenseFfn {
  at::Tensor x_Td;      // normalised inputs
  at::Tensor h_TI;      // silu(gate x) * up x
  at::Tensor down_dI;   // its output is h down^T
  int64_t samples = 1;  // equally long, that the tokens are of: ridges are chosen by some of them
};

struct FittedLayer {
  at::Tensor gate_Nd;           // of a linear gate
  at::Tensor shared_down_dm;    // the shared expert's down projection; undefined where m = 0
  at::Tensor experts_down_Ndn;  // undefined without fit_experts: what the partition slices
  at::Tensor output_bias_d;     // undefined without mean_vector
  double scale = 0;             // on the routed experts' sum, above 0
  at::Tensor y_Td;              // what all of it puts out
  double relative_error = 0;    // |y - dense|^2 / |dense|^2
};

// 1. The gate is the ridge regression of the experts' output norms on x. Its logits are scaled to a
//    standard deviation of 1, the size that trained gates have, so that softmax over the chosen is
//    neither flat nor hard and the gate noise of training moves near-ties only.
// 2. Scale, shared down projection (drawn to the dense one) and constant vector are the joint least
//    squares of what the dense FFN puts out.
// 3. What is left is predicted from the neurons of all experts, each only where its expert is
//    chosen and weighted by its score: ridge regression, drawn to the down projections so far.
FittedLayer FitLayer(const FitOptions& options, const DenseFfn& dense,
                     const LayerPartition& partition);

}  // namespace moe::construction
