// The gate: which experts a token goes to, with what weight, and how balanced that is. Here: noisy
// top-k; switch_gate.h has the other kind.
//
// T tokens, d hidden size, N experts, k = top_k. Everything in fp32 whatever the model computes in:
// in bf16, sums over thousands of tokens move in steps of 32 and near-ties are common.
//
// Source: LLaMA-MoE (arXiv 2406.16554), whose TopKBalancedNoisyGate follows Shazeer et al. 2017:
//   g = network(x), sigma = softplus(W_noise x) + epsilon, z = g + n sigma with n ~ N(0, 1)
//   scores = softmax over the k largest z; importance_e = sum of e's scores over tokens
//   load_e = sum over tokens of P(e is among the top k under a new draw of its own noise)
//   balance = weight (cv^2(importance) + cv^2(load))
// Without noise (evaluation, or k = N) z = g where there is none, and load counts tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "storage/artefacts/model_config.h"
#include "worker/kernels/dispatch.h"
#include "worker/model/batch.h"
#include "worker/model/model.h"

namespace moe::model {

// Pointers into an arena: weights, or gradients to add to.
template <typename Float>
struct GateArena {
  Float* router_0 = nullptr;  // [N, d]
  Float* router_2 = nullptr;  // [N, N]; null for a linear gate network
  Float* noise = nullptr;     // [N, d]; null without gate noise
};
using GateWeights = GateArena<const float>;
using GateGradients = GateArena<float>;

inline constexpr int32_t kNoExpert = kernels::Dispatch::kNone;

// What the forward found and the backward needs.
struct GateResult {
  int64_t tokens = 0;
  std::vector<int32_t> indices;    // [T, k], best first; kNoExpert where that expert was full
  std::vector<float> scores;       // [T, k], sum to 1 per token (switch_gate.h: logits); the scale
                                   // factor not applied
  std::vector<double> importance;  // [N]
  std::vector<double> load;        // [N], the estimate that the balance loss sees
  std::vector<int64_t> routed;     // [N], tokens sent to each expert
  double balance_loss = 0;         // weighted

  std::vector<float> hidden;         // [T, N], tanh output; mlp only
  std::vector<float> logits;         // [T, N], g
  std::vector<float> noise;          // [T, N], n; empty without noise
  std::vector<float> raw_sigma;      // [T, N], W_noise x; empty without noise
  std::vector<int32_t> runner_up;    // [T], the (k+1)-th expert by z; empty where k = N
  std::vector<float> probabilities;  // [T, N], softmax of the logits; switch gates only
};

// standard_normal_TN is n, or null for a pass without noise. Ties go to the lower expert. Where the
// config asks for a switch gate, the network is the same and the rest is switch_gate.h's.
void GateForward(const artefacts::MoeConfig& config, LoadEstimator estimator,
                 const GateWeights& weights, const float* x_Td, int64_t tokens, int64_t d,
                 const float* standard_normal_TN, GateResult& result);

// dscores_Tk is the gradient of the loss by `scores` through the experts; balance_scale that of the
// loss by `balance_loss`. Adds to `gradients` and to dx_Td.
void GateBackward(const artefacts::MoeConfig& config, LoadEstimator estimator,
                  const GateWeights& weights, const float* x_Td, int64_t d,
                  const GateResult& result, const float* dscores_Tk, double balance_scale,
                  const GateGradients& gradients, float* dx_Td);

// Draw (layer, sample, position, expert) of the gate's noise, standard normal, [B S, N]: element
// `expert mod 4` of Philox(seed, kGateNoise, layer, sample << 24 | position << 6 | expert / 4).
// Needs positions below 2^18 and at most 256 experts.
void DrawGateNoise(const NoiseContext& context, int64_t layer, std::span<const TokenPlace> places,
                   int64_t num_experts, float* out);
// The same for samples of equal length.
void DrawGateNoise(const NoiseContext& context, int64_t layer, int64_t batch, int64_t sequence,
                   int64_t num_experts, float* out);

}  // namespace moe::model
