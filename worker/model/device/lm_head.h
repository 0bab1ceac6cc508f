// The last linear layer with its cross-entropy on a device, some tokens at a time: the logits of
// all tokens need not exist, and become their own gradient in place.
//
// T tokens, d hidden size, V vocabulary.
#pragma once

#include <ATen/core/Tensor.h>

#include "worker/model/device/pass.h"

namespace moe::model::device {

// So many logits exist at a time: enough for products at full speed, 256 MiB in bf16.
inline constexpr int64_t kChunkLogits = int64_t{128} << 20;

// fp32 [T]: -log p of each token's target, 0 where the target is negative. h [T, d] and weight
// [V, d] in the pass's type.
at::Tensor LmHeadLoss(const Pass& pass, const at::Tensor& h, const at::Tensor& weight,
                      int64_t chunk_logits = kChunkLogits);

struct LmHeadGradient {
  at::Tensor losses;  // fp32 [T]
  at::Tensor dh;      // fp32 [T, d]
};

// The same, with the gradient of scale * sum(losses): dweight, fp32 [V, d], is added to.
LmHeadGradient LmHeadLossBackward(const Pass& pass, const at::Tensor& h, const at::Tensor& weight,
                                  double scale, const at::Tensor& dweight,
                                  int64_t chunk_logits = kChunkLogits);

}  // namespace moe::model::device
