// What a training step on a device needs beside LibTorch's products of matrices: the step itself
// (worker/model/device) is the same for every device.
//
// Two of them: HostStepKernels on the CPU, which tests hold to the reference, and the one of the
// CUDA plug-in, which runs the same kernels (kernel_list.h) on a GPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "worker/kernels/attention.h"
#include "worker/kernels/device/kernel_list.h"

namespace moe::kernels::device {

// The stretches of text of a batch: the shape, and what a device reads of it.
struct AttentionBatch {
  AttentionShape shape;  // with `ends`
  at::Tensor begins;     // int32 [B + 1], on the device: of each stretch, and the end of the last
  int64_t longest = 0;
  bool is_uniform = false;  // all of one length
};

struct AttentionOutput {
  at::Tensor out;                 // [R, H hd]
  std::vector<at::Tensor> saved;  // for the backward, as the device has it
};

class StepKernels {
 public:
  virtual ~StepKernels() = default;

  virtual at::Device device() const = 0;
  // Runs `kernel`, in order with LibTorch's work on the device; may return before it is done.
  // std::runtime_error where the device refuses.
  virtual void Run(const StepKernel& kernel) = 0;

  // Causal attention (worker/kernels/attention.h) on qkv [R, (H + 2 K) hd], and its gradient.
  virtual AttentionOutput AttentionForward(const AttentionBatch& batch, const at::Tensor& qkv) = 0;
  virtual at::Tensor AttentionBackward(const AttentionBatch& batch, const at::Tensor& dout,
                                       const at::Tensor& qkv, const AttentionOutput& output) = 0;
};

// The element type of a tensor that kernels work on.
ElementType TypeOf(const at::Tensor& tensor);

}  // namespace moe::kernels::device
