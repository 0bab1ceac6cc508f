// One dense FFN made into a shared expert and routed experts that come as near to it as they can
// on a sample of tokens, in closed form.
//
// T tokens, d hidden size, I width of the dense FFN, m of the shared expert, N routed experts, k of
// them per token.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "worker/construction/partition.h"

namespace moe::construction {

struct FitOptions {
  int64_t num_experts = 0;   // N
  int64_t top_k = 0;         // k
  int64_t shared_width = 0;  // m; N divides I - m
  // Adds to the shared expert's down projection what its neurons can predict of the rest.
  bool compensate = true;
  // Adds a constant vector that restores the mean of the rest.
  bool mean_vector = false;
};

// The FFN on the sample.
struct DenseFfn {
  at::Tensor x_Td;     // normalised inputs
  at::Tensor h_TI;     // silu(gate x) * up x
  at::Tensor down_dI;  // its output is h down^T
};

struct FittedLayer {
  LayerPartition partition;
  at::Tensor gate_Nd;         // of a linear gate
  at::Tensor shared_down_dm;  // the shared expert's down projection; undefined where m = 0
  at::Tensor output_bias_d;   // undefined without mean_vector
  double scale = 0;           // on the routed experts' sum, above 0
  at::Tensor y_Td;            // what all of it puts out
  double relative_error = 0;  // |y - dense|^2 / |dense|^2
};

// Deals `neurons` (ascending) to N experts of equal size, each ascending.
using SplitNeurons =
    std::function<std::vector<std::vector<int64_t>>(const std::vector<int64_t>& neurons)>;

// 1. The m neurons with the largest mean |h| |down column| are shared; `split` deals the others.
// 2. The gate is the ridge regression of the experts' output norms on x. Its logits are scaled to a
//    standard deviation of 1, the size that trained gates have, so that softmax over the chosen is
//    neither flat nor hard and the gate noise of training moves near-ties only.
// 3. Scale, shared down projection (drawn to the dense one) and constant vector are the joint least
//    squares of what the dense FFN puts out.
FittedLayer FitLayer(const FitOptions& options, const DenseFfn& dense, const SplitNeurons& split);

// mean over tokens of |h_i| |down column i|: what neuron i adds to the output, [I].
at::Tensor NeuronImportance(const at::Tensor& h_TI, const at::Tensor& down_dI);

}  // namespace moe::construction
