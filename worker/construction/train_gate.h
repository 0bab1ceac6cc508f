// A first gate that is trained against the dense model's activations, before anything else is.
//
// T tokens, d hidden size, I width of the dense FFN, N experts.
//
// Source: the published code of LLaMA-MoE ("select MLP"), after MoEfication (Zhang et al. 2022).
// Differs: a teacher's scores are scaled to a standard deviation of 1 before softmax, which is then
// neither flat nor hard in any layer; the learning rate falls linearly instead of on plateaus.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>

#include "worker/construction/partition.h"

namespace moe::construction {

// How active an expert is on a token, from the h of its neurons.
enum class Teacher { kL1, kL2, kPositive, kPlain };  // sum |h|, sum h^2, sum max(h, 0), |sum h|

struct GateTrainingOptions {
  Teacher teacher = Teacher::kL1;
  int64_t epochs = 40;
  double learning_rate = 0.01;  // of AdamW with PyTorch's other defaults, batches of 1024 tokens
  uint64_t seed = 0;            // of the order of the tokens: a function of (seed, layer)
};

struct TrainedGate {
  // "router.0", and "router.2" for an mlp: as LayerPlan::replaced has it.
  std::map<std::string, at::Tensor> weights;
  // Of the tokens held out (every eighth), how many go to the expert that is most active: with the
  // weights that it started with, and with the best of an epoch's end, which are those above.
  double accuracy_before = 0;
  double accuracy = 0;
};

// Activity of every expert on every token, [T, N].
at::Tensor ExpertActivity(const at::Tensor& h_TI, const LayerPartition& partition, Teacher teacher);

// Starts from `weights` (GateAtCentres) and minimises the KL divergence of the gate's softmax over
// all experts from the teacher's. x_Td are the FFN's normalised inputs.
TrainedGate TrainGate(const GateTrainingOptions& options, int64_t layer, const at::Tensor& x_Td,
                      const at::Tensor& activity_TN, std::map<std::string, at::Tensor> weights);

}  // namespace moe::construction
