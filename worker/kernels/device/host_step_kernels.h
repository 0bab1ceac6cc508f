// The device step's kernels on the CPU: correct, deterministic and not fast.
#pragma once

#include "worker/kernels/device/step_kernels.h"

namespace moe::kernels::device {

class HostStepKernels final : public StepKernels {
 public:
  at::Device device() const override { return at::kCPU; }
  void Run(const StepKernel& kernel) override;
  AttentionOutput AttentionForward(const AttentionBatch& batch, const at::Tensor& qkv) override;
  at::Tensor AttentionBackward(const AttentionBatch& batch, const at::Tensor& dout,
                               const at::Tensor& qkv, const AttentionOutput& output) override;
};

}  // namespace moe::kernels::device
