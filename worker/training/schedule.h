// The learning-rate schedule of the published runs: linear warm-up, then a cosine that goes to 0
// and is clamped (not rescaled) at the final ratio.
#pragma once

#include <cstdint>

namespace moe::training {

struct Schedule {
  double peak_learning_rate = 2e-4;
  double final_ratio = 0.1;  // of the peak
  int64_t warmup_steps = 100;
  int64_t total_steps = 0;

  // lambda(t), exactly as published (LLaMA-MoE, trainer/llama_lr_scheduling.py):
  //   t < W:  t / max(1, W)
  //   else:   max(final_ratio, (1 + cos(pi p)) / 2) with p = (t - W) / max(1, T - W)
  // With W = 100, T = 13623 and ratio 0.1 the floor is reached at t = 10854.
  double Factor(int64_t t) const;

  // The learning rate of step `step`, counted from 1: peak x lambda(step). Differs from the
  // published code, which passes the steps already taken, so that its first update has learning
  // rate 0 and does nothing: here the curve is the same, one step earlier.
  double LearningRate(int64_t step) const { return peak_learning_rate * Factor(step); }
};

}  // namespace moe::training
