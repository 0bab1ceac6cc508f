// One decoder layer on a device, forward and backward: x + attention(norm(x)), then + ffn(norm(x)).
// The residual stream and its gradient are fp32 [T, d].
#pragma once

#include <ATen/core/Tensor.h>

#include "worker/model/device/ffn.h"
#include "worker/model/device/layer_tensors.h"
#include "worker/model/device/pass.h"

namespace moe::model::device {

// What the backward cannot cheaply compute again. Norm outputs, SwiGLU products, attention
// probabilities and gathered rows are not here.
struct LayerSaved {
  at::Tensor x, x_mid;             // input, and after attention
  at::Tensor attn_rstd, ffn_rstd;  // [T]
  at::Tensor qkv;                  // [T, (H + 2 K) hd], rotated
  kernels::device::AttentionOutput attention;
  FfnSaved ffn;
};

// The layer's output. `noise` as in Gate.
at::Tensor Layer(const Pass& pass, const LayerTensors& weights, const at::Tensor& noise,
                 const at::Tensor& x, LayerSaved& saved);

// dx holds the gradient of the output and becomes that of x; those of weights are added.
void LayerBackward(const Pass& pass, const LayerTensors& weights, double balance_scale,
                   const LayerSaved& saved, const LayerTensors& gradients, const at::Tensor& dx);

}  // namespace moe::model::device
