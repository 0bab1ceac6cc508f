#include "worker/cuda/cuda_step_kernels.h"

#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "worker/cuda/attention.h"
#include "worker/cuda/check.h"
#include "worker/cuda/launch.h"

namespace moe::cuda {

using kernels::device::AttentionBatch;
using kernels::device::AttentionOutput;

CudaStepKernels::CudaStepKernels(int device) : device_(static_cast<c10::DeviceIndex>(device)) {
  CheckCuda(cudaSetDevice(device), "cudaSetDevice");
  CheckCuda(
      cudaDeviceGetAttribute(&compute_capability_major_, cudaDevAttrComputeCapabilityMajor, device),
      "cudaDeviceGetAttribute");
}

void CudaStepKernels::Run(const kernels::device::StepKernel& kernel) {
  CheckCuda(Launch(kernel, c10::cuda::getCurrentCUDAStream(device_).stream()),
            "cannot start a kernel of the step");
}

AttentionOutput CudaStepKernels::AttentionForward(const AttentionBatch& batch,
                                                  const at::Tensor& qkv) {
  return cuda::AttentionForward(
      ChooseAttention(batch, qkv.scalar_type(), compute_capability_major_), batch, qkv);
}

at::Tensor CudaStepKernels::AttentionBackward(const AttentionBatch& batch, const at::Tensor& dout,
                                              const at::Tensor& qkv,
                                              const AttentionOutput& output) {
  return cuda::AttentionBackward(
      ChooseAttention(batch, qkv.scalar_type(), compute_capability_major_), batch, dout, qkv,
      output);
}

}  // namespace moe::cuda
