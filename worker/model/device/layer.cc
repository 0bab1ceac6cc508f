#include "worker/model/device/layer.h"

#include <ATen/ops/mm.h>

#include "worker/model/device/linear.h"
#include "worker/model/device/norm.h"

namespace moe::model::device {

namespace kd = kernels::device;

namespace {

constexpr float kForwards = 1.0f, kBackwards = -1.0f;

// Rotates query and key heads in place.
void Rotate(const Pass& pass, float direction, const at::Tensor& qkv) {
  pass.kernels.Run(kd::RotateHeads{.rows = qkv.size(0),
                                   .type = kd::TypeOf(qkv),
                                   .heads = pass.config.num_heads + pass.config.num_kv_heads,
                                   .half = pass.config.head_dim / 2,
                                   .stride = qkv.size(1),
                                   .sign = direction,
                                   .positions = DataOf<int32_t>(pass.batch.positions),
                                   .cos = DataOf<float>(pass.rope.cos),
                                   .sin = DataOf<float>(pass.rope.sin),
                                   .x = qkv.mutable_data_ptr()});
}

// x += attention(norm(x)), as the gradient sees it: dx is that of both.
void AttentionBackward(const Pass& pass, const LayerTensors& weights, const LayerSaved& saved,
                       const LayerTensors& gradients, const at::Tensor& dx) {
  const at::Tensor dy = dx.to(pass.type);
  AddProduct(dy.t(), saved.attention.out, gradients.attn_out);
  const at::Tensor dqkv = pass.kernels.AttentionBackward(
      pass.batch.attention, at::mm(dy, weights.attn_out), saved.qkv, saved.attention);
  Rotate(pass, kBackwards, dqkv);
  AddProduct(dqkv.t(), Norm(pass, saved.x, weights.attn_norm, NormOutput::kRounded).y,
             gradients.qkv);
  NormBackward(pass, ProductInFp32(dqkv, weights.qkv), saved.x, weights.attn_norm, saved.attn_rstd,
               dx, gradients.attn_norm);
}

}  // namespace

at::Tensor Layer(const Pass& pass, const LayerTensors& weights, const at::Tensor& noise,
                 const at::Tensor& x, LayerSaved& saved) {
  saved.x = x;
  const Normed attention_input = Norm(pass, x, weights.attn_norm, NormOutput::kRounded);
  saved.attn_rstd = attention_input.rstd;
  saved.qkv = Linear(attention_input.y, weights.qkv);
  Rotate(pass, kForwards, saved.qkv);
  saved.attention = pass.kernels.AttentionForward(pass.batch.attention, saved.qkv);
  saved.x_mid = x.clone();
  AddProduct(saved.attention.out, weights.attn_out.t(), saved.x_mid);

  const Normed ffn_input = Norm(pass, saved.x_mid, weights.ffn_norm, NormOutput::kBoth);
  saved.ffn_rstd = ffn_input.rstd;
  return Ffn(pass, weights, ffn_input, noise, saved.x_mid, saved.ffn);
}

void LayerBackward(const Pass& pass, const LayerTensors& weights, double balance_scale,
                   const LayerSaved& saved, const LayerTensors& gradients, const at::Tensor& dx) {
  const Normed ffn_input = Norm(pass, saved.x_mid, weights.ffn_norm, NormOutput::kBoth);
  const at::Tensor dffn_input =
      FfnBackward(pass, weights, ffn_input, dx.to(pass.type), balance_scale, saved.ffn, gradients);
  NormBackward(pass, dffn_input, saved.x_mid, weights.ffn_norm, saved.ffn_rstd, dx,
               gradients.ffn_norm);
  AttentionBackward(pass, weights, saved, gradients, dx);
}

}  // namespace moe::model::device
