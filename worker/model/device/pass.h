// What the layers of one pass on a device share.
//
// T tokens, d hidden size, V vocabulary. Tensors are on the device of the kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include "storage/artefacts/model_config.h"
#include "worker/kernels/device/step_kernels.h"
#include "worker/model/batch.h"
#include "worker/model/model.h"

namespace moe::model::device {

// A batch on the device.
struct DeviceBatch {
  at::Tensor tokens, targets;     // int64 [T]
  at::Tensor samples, positions;  // int32 [T], of each token
  kernels::device::AttentionBatch attention;
  // The different ids among the tokens, for the embedding's gradient: which, where the list of each
  // one's tokens ends, and the lists. int32.
  at::Tensor ids, id_ends, id_tokens;

  int64_t num_tokens() const { return tokens.size(0); }
};

// Copies `batch`, which outlives the result. `places` are those of its tokens.
DeviceBatch ToDevice(const Batch& batch, const std::vector<TokenPlace>& places,
                     const artefacts::ModelConfig& config, at::Device device);

// Angles of rotary positions: fp32 [positions, half a head].
struct RopeTensors {
  at::Tensor cos, sin;
};

struct Pass {
  kernels::device::StepKernels& kernels;
  const artefacts::ModelConfig& config;
  LoadEstimator estimator;
  at::ScalarType type;  // that products are computed in
  const DeviceBatch& batch;
  const RopeTensors& rope;

  int64_t tokens() const { return batch.num_tokens(); }
  at::Tensor Empty(at::IntArrayRef shape, at::ScalarType scalar_type) const;
  at::Tensor EmptyFp32(at::IntArrayRef shape) const { return Empty(shape, at::kFloat); }
};

// A tensor's memory for a kernel; null for one that is not defined.
template <typename T>
const T* DataOf(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<T>() : nullptr;
}
template <typename T>
T* MutableDataOf(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.mutable_data_ptr<T>() : nullptr;
}

}  // namespace moe::model::device
