// Causal attention by LibTorch's CUDA kernels (worker/kernels/attention.h says what it computes).
#pragma once

#include <ATen/core/Tensor.h>

#include "worker/kernels/device/step_kernels.h"

namespace moe::cuda {

// Which of them serves a batch:
//   kCudnn      bf16, stretches of one length, a key head for every query head: on Hopper, where it
//               is the fastest
//   kFlash      bf16 otherwise
//   kEfficient  fp32
enum class AttentionBackend { kCudnn, kFlash, kEfficient };
AttentionBackend ChooseAttention(const kernels::device::AttentionBatch& batch, at::ScalarType type,
                                 int compute_capability_major);

// qkv [R, (H + 2 K) hd] on a GPU.
kernels::device::AttentionOutput AttentionForward(AttentionBackend backend,
                                                  const kernels::device::AttentionBatch& batch,
                                                  const at::Tensor& qkv);
// The gradient by qkv.
at::Tensor AttentionBackward(AttentionBackend backend, const kernels::device::AttentionBatch& batch,
                             const at::Tensor& dout, const at::Tensor& qkv,
                             const kernels::device::AttentionOutput& output);

}  // namespace moe::cuda
