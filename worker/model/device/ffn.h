// The feed-forward part of a layer on a device: dense, or a mixture of experts.
//
// T tokens, d hidden size, n FFN (or expert) width, N experts, R = T k rows. Products are in the
// pass's type, what is added up in fp32. All experts are on the device.
#pragma once

#include <ATen/core/Tensor.h>

#include "worker/model/device/dispatch.h"
#include "worker/model/device/gate.h"
#include "worker/model/device/layer_tensors.h"
#include "worker/model/device/norm.h"
#include "worker/model/device/pass.h"

namespace moe::model::device {

// What one layer keeps from its forward to its backward.
struct FfnSaved {
  at::Tensor gate_up;  // [T, 2 n], or [R, 2 n]
  at::Tensor shared_gate_up;
  GateOutput gate;
  Dispatch dispatch;
  at::Tensor row_scale;  // [R]: score times scale
};

// fp32 [T, d]: base + ffn(x), where x is the output of the norm. `noise` as in Gate.
at::Tensor Ffn(const Pass& pass, const LayerTensors& weights, const Normed& x,
               const at::Tensor& noise, const at::Tensor& base, FfnSaved& saved);

// The gradient by x, fp32 [T, d], from dy [T, d] in the pass's type; those of weights are added.
at::Tensor FfnBackward(const Pass& pass, const LayerTensors& weights, const Normed& x,
                       const at::Tensor& dy, double balance_scale, const FfnSaved& saved,
                       const LayerTensors& gradients);

}  // namespace moe::model::device
