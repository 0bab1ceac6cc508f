#include "worker/cuda/attention.h"

#include <ATen/ops/_efficient_attention_backward.h>
#include <ATen/ops/_efficient_attention_forward.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention_backward.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/repeat_interleave.h>
#include <ATen/ops/sum.h>

#include <cmath>
#include <tuple>

namespace moe::cuda {
namespace {

using kernels::AttentionShape;
using kernels::device::AttentionBatch;
using kernels::device::AttentionOutput;

constexpr int kHopper = 9;
constexpr int64_t kCausalFromTopLeft = 1;  // custom_mask_type of the efficient kernels

double ScaleOf(const AttentionShape& shape) {
  return 1.0 / std::sqrt(static_cast<double>(shape.head_dim));
}

// Views of qkv or of its gradient: q [R, H, hd], k and v [R, K, hd].
struct Heads {
  at::Tensor q, k, v;
};
Heads HeadsOf(const AttentionShape& shape, const at::Tensor& qkv) {
  const at::Tensor heads =
      qkv.view({qkv.size(0), shape.heads + 2 * shape.kv_heads, shape.head_dim});
  return {heads.narrow(1, 0, shape.heads), heads.narrow(1, shape.heads, shape.kv_heads),
          heads.narrow(1, shape.heads + shape.kv_heads, shape.kv_heads)};
}

at::Tensor Joined(const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& dv) {
  return at::cat({dq, dk, dv}, 1).flatten(1);
}

// [R, heads, hd] as [B, heads, S, hd], for stretches of one length; and back.
at::Tensor ByStretch(const AttentionBatch& batch, const at::Tensor& rows) {
  return rows.unflatten(0, {batch.shape.batch, batch.longest}).transpose(1, 2);
}
at::Tensor ByRow(const at::Tensor& stretches) { return stretches.transpose(1, 2).flatten(0, 1); }

// The efficient kernels want a key head for every query head, and a batch of one.
at::Tensor Repeated(const AttentionShape& shape, const at::Tensor& heads) {
  return at::repeat_interleave(heads, shape.heads / shape.kv_heads, 1).unsqueeze(0);
}
at::Tensor SumOfRepeated(const AttentionShape& shape, const at::Tensor& gradient) {
  return at::sum(gradient.squeeze(0).unflatten(1, {shape.kv_heads, -1}), {2});
}

AttentionOutput CudnnForward(const AttentionBatch& batch, const Heads& heads) {
  const auto [out, log_sum_exp, begins_q, begins_k, longest_q, longest_k, seed, offset, mask] =
      at::_scaled_dot_product_cudnn_attention(
          ByStretch(batch, heads.q), ByStretch(batch, heads.k), ByStretch(batch, heads.v),
          /*attn_bias=*/{}, /*compute_log_sumexp=*/true, /*dropout_p=*/0.0, /*is_causal=*/true,
          /*return_debug_mask=*/false, ScaleOf(batch.shape));
  return {.out = ByRow(out).flatten(1), .saved = {log_sum_exp, seed, offset, begins_q, begins_k}};
}

at::Tensor CudnnBackward(const AttentionBatch& batch, const at::Tensor& dout, const Heads& heads,
                         const AttentionOutput& output) {
  const auto by_stretch = [&](const at::Tensor& rows) {
    return ByStretch(batch, rows.unflatten(1, {batch.shape.heads, batch.shape.head_dim}));
  };
  const auto [dq, dk, dv] = at::_scaled_dot_product_cudnn_attention_backward(
      by_stretch(dout), ByStretch(batch, heads.q), ByStretch(batch, heads.k),
      ByStretch(batch, heads.v), by_stretch(output.out), output.saved[0], output.saved[1],
      output.saved[2], /*attn_bias=*/{}, output.saved[3], output.saved[4], batch.longest,
      batch.longest, /*dropout_p=*/0.0, /*is_causal=*/true, ScaleOf(batch.shape));
  return Joined(ByRow(dq), ByRow(dk), ByRow(dv));
}

AttentionOutput FlashForward(const AttentionBatch& batch, const Heads& heads) {
  const auto [out, log_sum_exp, random_state, unused, mask] = at::_flash_attention_forward(
      heads.q, heads.k, heads.v, batch.begins, batch.begins, batch.longest, batch.longest,
      /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false, ScaleOf(batch.shape));
  return {.out = out.flatten(1), .saved = {log_sum_exp, random_state, unused}};
}

at::Tensor FlashBackward(const AttentionBatch& batch, const at::Tensor& dout, const Heads& heads,
                         const AttentionOutput& output) {
  const auto by_head = [&](const at::Tensor& rows) {
    return rows.unflatten(1, {batch.shape.heads, batch.shape.head_dim});
  };
  const auto [dq, dk, dv] = at::_flash_attention_backward(
      by_head(dout), heads.q, heads.k, heads.v, by_head(output.out), output.saved[0], batch.begins,
      batch.begins, batch.longest, batch.longest, /*dropout_p=*/0.0, /*is_causal=*/true,
      output.saved[1], output.saved[2], ScaleOf(batch.shape));
  return Joined(dq, dk, dv);
}

AttentionOutput EfficientForward(const AttentionBatch& batch, const Heads& heads) {
  const auto [out, log_sum_exp, seed, offset, longest_q, longest_k] =
      at::_efficient_attention_forward(
          heads.q.unsqueeze(0), Repeated(batch.shape, heads.k), Repeated(batch.shape, heads.v),
          /*bias=*/{}, batch.begins, batch.begins, batch.longest, batch.longest, /*dropout_p=*/0.0,
          kCausalFromTopLeft, /*compute_log_sumexp=*/true, ScaleOf(batch.shape));
  return {.out = out.squeeze(0).flatten(1), .saved = {log_sum_exp, seed, offset}};
}

at::Tensor EfficientBackward(const AttentionBatch& batch, const at::Tensor& dout,
                             const Heads& heads, const AttentionOutput& output) {
  const AttentionShape& shape = batch.shape;
  const auto by_head = [&](const at::Tensor& rows) {
    return rows.unflatten(1, {shape.heads, shape.head_dim}).unsqueeze(0);
  };
  const auto [dq, dk, dv, dbias] = at::_efficient_attention_backward(
      by_head(dout), heads.q.unsqueeze(0), Repeated(shape, heads.k), Repeated(shape, heads.v),
      /*bias=*/{}, by_head(output.out), batch.begins, batch.begins, batch.longest, batch.longest,
      output.saved[0], /*dropout_p=*/0.0, output.saved[1], output.saved[2], kCausalFromTopLeft,
      /*bias_requires_grad=*/false, ScaleOf(shape));
  return Joined(dq.squeeze(0), SumOfRepeated(shape, dk), SumOfRepeated(shape, dv));
}

}  // namespace

AttentionBackend ChooseAttention(const AttentionBatch& batch, at::ScalarType type,
                                 int compute_capability_major) {
  if (type != at::kBFloat16) return AttentionBackend::kEfficient;
  const bool for_cudnn = compute_capability_major == kHopper && batch.is_uniform &&
                         batch.shape.heads == batch.shape.kv_heads;
  return for_cudnn ? AttentionBackend::kCudnn : AttentionBackend::kFlash;
}

AttentionOutput AttentionForward(AttentionBackend backend, const AttentionBatch& batch,
                                 const at::Tensor& qkv) {
  const Heads heads = HeadsOf(batch.shape, qkv);
  switch (backend) {
    case AttentionBackend::kCudnn:
      return CudnnForward(batch, heads);
    case AttentionBackend::kFlash:
      return FlashForward(batch, heads);
    case AttentionBackend::kEfficient:
      break;
  }
  return EfficientForward(batch, heads);
}

at::Tensor AttentionBackward(AttentionBackend backend, const AttentionBatch& batch,
                             const at::Tensor& dout, const at::Tensor& qkv,
                             const AttentionOutput& output) {
  const Heads heads = HeadsOf(batch.shape, qkv);
  switch (backend) {
    case AttentionBackend::kCudnn:
      return CudnnBackward(batch, dout, heads, output);
    case AttentionBackend::kFlash:
      return FlashBackward(batch, dout, heads, output);
    case AttentionBackend::kEfficient:
      break;
  }
  return EfficientBackward(batch, dout, heads, output);
}

}  // namespace moe::cuda
