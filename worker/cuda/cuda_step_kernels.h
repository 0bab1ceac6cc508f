// The device step's kernels on one GPU.
#pragma once

#include "worker/kernels/device/step_kernels.h"

namespace moe::cuda {

// Work is enqueued on LibTorch's current stream. Errors are exceptions (std::runtime_error,
// c10::Error).
class CudaStepKernels final : public kernels::device::StepKernels {
 public:
  explicit CudaStepKernels(int device);

  at::Device device() const override { return at::Device(at::kCUDA, device_); }
  void Run(const kernels::device::StepKernel& kernel) override;
  kernels::device::AttentionOutput AttentionForward(const kernels::device::AttentionBatch& batch,
                                                    const at::Tensor& qkv) override;
  at::Tensor AttentionBackward(const kernels::device::AttentionBatch& batch, const at::Tensor& dout,
                               const at::Tensor& qkv,
                               const kernels::device::AttentionOutput& output) override;

 private:
  const c10::DeviceIndex device_;
  int compute_capability_major_ = 0;
};

}  // namespace moe::cuda
