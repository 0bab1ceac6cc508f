// RMSNorm on a device.
#pragma once

#include <ATen/core/Tensor.h>

#include "worker/model/device/pass.h"

namespace moe::model::device {

struct Normed {
  at::Tensor y;       // [T, d], as products take it
  at::Tensor y_fp32;  // the same before rounding: y itself where that is fp32
  at::Tensor rstd;    // fp32 [T]
};

enum class NormOutput { kRounded, kBoth };

// x fp32 [T, d], weight fp32 [d].
Normed Norm(const Pass& pass, const at::Tensor& x, const at::Tensor& weight, NormOutput output);

// From dy fp32 [T, d], and x, weight and rstd of the forward: adds to dx [T, d] and dweight [d].
void NormBackward(const Pass& pass, const at::Tensor& dy, const at::Tensor& x,
                  const at::Tensor& weight, const at::Tensor& rstd, const at::Tensor& dx,
                  const at::Tensor& dweight);

}  // namespace moe::model::device
