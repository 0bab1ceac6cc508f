#include "worker/training/weight_average.h"

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>

namespace moe::training {
namespace {

constexpr int64_t kBlockElements = 1 << 16;

}  // namespace

void WeightAverage::Start(const std::vector<at::Tensor>& parameters, const at::Tensor& average) {
  if (!is_kept()) return;
  values_ = average.defined() ? average.clone() : at::cat(parameters);
}

void WeightAverage::Update(int64_t step, const std::vector<at::Tensor>& parameters) {
  if (!is_kept()) return;
  const float kept = step > options_.start_step ? static_cast<float>(options_.decay) : 0.0f;
  const float added = 1.0f - kept;
  if (!values_.is_cpu()) {
    int64_t begin = 0;
    for (const at::Tensor& piece : parameters) {
      values_.narrow(0, begin, piece.numel()).lerp_(piece, added);
      begin += piece.numel();
    }
    return;
  }
  float* average = values_.mutable_data_ptr<float>();
  for (const at::Tensor& piece : parameters) {
    const float* from = piece.const_data_ptr<float>();
    at::parallel_for(0, piece.numel(), kBlockElements, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) average[i] = kept * average[i] + added * from[i];
    });
    average += piece.numel();
  }
}

}  // namespace moe::training
