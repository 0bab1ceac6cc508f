// The gate on a device: worker/model/gate.h and switch_gate.h, whose formulas hold here too.
//
// T tokens, d hidden size, N experts, k of them per token, K = min(k + 1, N). Everything is fp32.
#pragma once

#include <ATen/core/Tensor.h>

#include "worker/model/device/layer_tensors.h"
#include "worker/model/device/pass.h"

namespace moe::model::device {

struct GateOutput {
  at::Tensor order;         // int32 [T, K], or [T, 1] of a switch gate, whose full experts are -1
  at::Tensor scores;        // [T, k]
  at::Tensor importance;    // fp64 [N], sums over tokens of scores, or of probabilities
  at::Tensor load;          // fp64 [N], sums over tokens
  at::Tensor balance_loss;  // fp64 [1], weighted

  // For the backward.
  at::Tensor hidden, logits, noise, raw_sigma, z, probabilities;
  at::Tensor dimportance, dload;  // [N], of the balance loss
};

// x fp32 [T, d]; `noise` [T, N] draws, undefined for a pass without.
GateOutput Gate(const Pass& pass, const LayerTensors& weights, const at::Tensor& x,
                const at::Tensor& noise);

// From dscores [T, k], through the experts, and balance_scale, the gradient by the balance loss:
// adds to the gradients and to dx [T, d].
void GateBackward(const Pass& pass, const LayerTensors& weights, const at::Tensor& x,
                  const GateOutput& gate, const at::Tensor& dscores, double balance_scale,
                  const LayerTensors& gradients, const at::Tensor& dx);

// Standard normal draws [T, N] of a layer.
at::Tensor DrawNoise(const Pass& pass, const NoiseContext& context, int64_t layer);

}  // namespace moe::model::device
