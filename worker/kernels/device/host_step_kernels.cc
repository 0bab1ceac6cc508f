#include "worker/kernels/device/host_step_kernels.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/util/BFloat16.h>

#include "worker/kernels/parallel.h"

namespace moe::kernels::device {
namespace {

constexpr int64_t kMinRowsPerThread = 16;

template <typename T, typename Kernel>
void RunRows(const Kernel& kernel) {
  ParallelFor(kernel.rows, kMinRowsPerThread, [&kernel](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) kernel.template Row<T>(row, SoloTeam());
  });
}

template <typename Kernel>
void RunKernel(const Kernel& kernel) {
  if constexpr (HasElementType<Kernel>) {
    if (kernel.type == ElementType::kBf16) return RunRows<Bf16>(kernel);
  }
  RunRows<float>(kernel);
}

template <typename T>
void Forward(const AttentionBatch& batch, const at::Tensor& qkv, const AttentionOutput& to) {
  kernels::AttentionForward<T>(batch.shape, qkv.const_data_ptr<T>(), to.out.mutable_data_ptr<T>(),
                               to.saved[0].mutable_data_ptr<float>());
}

template <typename T>
void Backward(const AttentionBatch& batch, const at::Tensor& dout, const at::Tensor& qkv,
              const AttentionOutput& output, const at::Tensor& dqkv) {
  kernels::AttentionBackward<T>(batch.shape, dout.const_data_ptr<T>(), qkv.const_data_ptr<T>(),
                                output.out.const_data_ptr<T>(),
                                output.saved[0].const_data_ptr<float>(),
                                dqkv.mutable_data_ptr<T>());
}

}  // namespace

ElementType TypeOf(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kBFloat16 ? ElementType::kBf16 : ElementType::kFp32;
}

void HostStepKernels::Run(const StepKernel& kernel) {
  std::visit([](const auto& concrete) { RunKernel(concrete); }, kernel);
}

AttentionOutput HostStepKernels::AttentionForward(const AttentionBatch& batch,
                                                  const at::Tensor& qkv) {
  const int64_t rows = qkv.size(0);
  const AttentionOutput output = {
      .out = at::empty({rows, batch.shape.out_width()}, qkv.options()),
      .saved = {at::empty({rows, batch.shape.heads}, qkv.options().dtype(at::kFloat))}};
  if (TypeOf(qkv) == ElementType::kBf16) {
    Forward<c10::BFloat16>(batch, qkv, output);
  } else {
    Forward<float>(batch, qkv, output);
  }
  return output;
}

at::Tensor HostStepKernels::AttentionBackward(const AttentionBatch& batch, const at::Tensor& dout,
                                              const at::Tensor& qkv,
                                              const AttentionOutput& output) {
  at::Tensor dqkv = at::empty_like(qkv);
  if (TypeOf(qkv) == ElementType::kBf16) {
    Backward<c10::BFloat16>(batch, dout, qkv, output, dqkv);
  } else {
    Backward<float>(batch, dout, qkv, output, dqkv);
  }
  return dqkv;
}

}  // namespace moe::kernels::device
