// The model of worker/model/model.h again, as plain as it can be written: autograd over ATen
// operators, in fp32 or fp64. What the fast path is tested against, and what to read first.
//
// B samples, S positions, T = B S tokens, d hidden size, N experts, k experts per token.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "storage/artefacts/model_config.h"
#include "worker/model/model.h"
#include "worker/model/parameters.h"

namespace moe::model::reference {

struct GateWeights {
  at::Tensor router_0;  // [N, d]
  at::Tensor router_2;  // [N, N]; undefined for a linear gate network
  at::Tensor noise;     // [N, d]; undefined without gate noise
};

struct GateOutput {
  at::Tensor indices_Tk, scores_Tk;  // best first
  at::Tensor importance_N, load_N;
  at::Tensor balance_loss;  // weighted, a scalar
};

// standard_normal_TN undefined: a pass without noise.
GateOutput Gate(const artefacts::MoeConfig& config, LoadEstimator estimator,
                const GateWeights& weights, const at::Tensor& x_Td,
                const at::Tensor& standard_normal_TN);

// gate_up [N, 2 n, d], down [N, d, n]. [T, d]: the sum of score * expert(x).
at::Tensor Experts(const artefacts::MoeConfig& config, const GateOutput& gate,
                   const at::Tensor& gate_up, const at::Tensor& down, const at::Tensor& x_Td);

struct Output {
  at::Tensor logits_BSV;
  at::Tensor mean_loss;           // over all targets
  at::Tensor balance_loss;        // summed over layers, weighted
  std::vector<GateOutput> gates;  // of the layers that have experts
};

// `parameters` is the arena, in the type to compute in; where it requires a gradient,
// (mean_loss + balance_loss).backward() leaves the arena of gradients in parameters.grad(). Noise
// where `noise` is given. document_BS numbers the document of each token, where those are not to
// see one another.
Output Forward(const artefacts::ModelConfig& config, const ParameterLayout& layout,
               LoadEstimator estimator, const at::Tensor& parameters, const at::Tensor& tokens_BS,
               const NoiseContext* noise, const at::Tensor& document_BS = {});

}  // namespace moe::model::reference
