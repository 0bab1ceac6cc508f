// An exponential moving average of the weights, beside the weights themselves.
//
// A rank keeps the average of what it owns of the arena (ownership.h), as it does of the
// optimizer's moments. Until `start_step` it is the weights; from the step after, average = decay x
// average + (1 - decay) x weights. Not thread-safe.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace moe::training {

struct WeightAverageOptions {
  double decay = 0;  // 0: no average is kept
  int64_t start_step = 0;
};

class WeightAverage {
 public:
  explicit WeightAverage(const WeightAverageOptions& options) : options_(options) {}

  bool is_kept() const { return options_.decay > 0; }
  // Fp32 [owned]; undefined where none is kept.
  const at::Tensor& values() const { return values_; }

  // Begins with `parameters`, fp32, together [owned]; or goes on with `average`, fp32 [owned],
  // where that is defined.
  void Start(const std::vector<at::Tensor>& parameters, const at::Tensor& average = {});
  // After the update of `step`.
  void Update(int64_t step, const std::vector<at::Tensor>& parameters);

 private:
  const WeightAverageOptions options_;
  at::Tensor values_;
};

}  // namespace moe::training
