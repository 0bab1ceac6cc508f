#include "worker/model/device/lm_head.h"

#include <algorithm>

#include "worker/model/device/linear.h"

namespace moe::model::device {

namespace kd = kernels::device;

namespace {

// body(first, count) for all tokens, in parts whose logits are at most `chunk_logits`.
template <typename Body>
void InChunks(int64_t tokens, int64_t vocabulary, int64_t chunk_logits, const Body& body) {
  const int64_t most = std::clamp<int64_t>(chunk_logits / vocabulary, 1, tokens);
  for (int64_t first = 0; first < tokens; first += most) {
    body(first, std::min(most, tokens - first));
  }
}

// The logits' kernel, of tokens from `first` on.
kd::CrossEntropy CrossEntropyOf(const Pass& pass, const at::Tensor& logits, int64_t first,
                                const at::Tensor& losses) {
  return {.rows = logits.size(0),
          .type = kd::TypeOf(logits),
          .vocabulary = logits.size(1),
          .targets = DataOf<int64_t>(pass.batch.targets) + first,
          .has_gradient = false,
          .scale = 0,
          .logits = logits.mutable_data_ptr(),
          .losses = MutableDataOf<float>(losses) + first};
}

}  // namespace

at::Tensor LmHeadLoss(const Pass& pass, const at::Tensor& h, const at::Tensor& weight,
                      int64_t chunk_logits) {
  at::Tensor losses = pass.EmptyFp32({pass.tokens()});
  InChunks(pass.tokens(), weight.size(0), chunk_logits, [&](int64_t first, int64_t count) {
    const at::Tensor logits = Linear(h.narrow(0, first, count), weight);
    pass.kernels.Run(CrossEntropyOf(pass, logits, first, losses));
  });
  return losses;
}

LmHeadGradient LmHeadLossBackward(const Pass& pass, const at::Tensor& h, const at::Tensor& weight,
                                  double scale, const at::Tensor& dweight, int64_t chunk_logits) {
  LmHeadGradient result = {.losses = pass.EmptyFp32({pass.tokens()}),
                           .dh = pass.EmptyFp32({pass.tokens(), h.size(1)})};
  InChunks(pass.tokens(), weight.size(0), chunk_logits, [&](int64_t first, int64_t count) {
    const at::Tensor chunk = h.narrow(0, first, count), logits = Linear(chunk, weight);
    kd::CrossEntropy kernel = CrossEntropyOf(pass, logits, first, result.losses);
    kernel.has_gradient = true;
    kernel.scale = static_cast<float>(scale);
    pass.kernels.Run(kernel);
    result.dh.narrow(0, first, count).copy_(ProductInFp32(logits, weight));
    AddProduct(logits.t(), chunk, dweight);
  });
  return result;
}

}  // namespace moe::model::device
