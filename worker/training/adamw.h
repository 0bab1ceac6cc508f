// AdamW (decoupled weight decay) in one pass over flat fp32 arenas, on the CPU or on a device.
//
// Per element, with g the gradient times `gradient_scale` and t the step from 1, as torch has it:
//   p <- p (1 - lr wd)          wd only where the layout says so: everywhere but norm weights
//   m <- b1 m + (1 - b1) g      v <- b2 v + (1 - b2) g^2
//   p <- p - lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps)
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "worker/kernels/device/step_kernels.h"
#include "worker/model/parameters.h"
#include "worker/parallel/communicator.h"
#include "worker/training/parameter_groups.h"

namespace moe::training {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;
};

// A piece of the arena whose elements are all updated alike.
struct DecaySegment {
  parallel::Range range;
  bool decay = true;
  double learning_rate_ratio = 1.0;
};

// The part of the arena in `range`, which lies in one region, as segments, in order and without
// gaps; neighbours that agree are one. Padding after a parameter goes with it: it is zero and stays
// zero.
std::vector<DecaySegment> DecaySegments(const model::ParameterLayout& layout, parallel::Range range,
                                        const LearningRateRatios& ratios = {});

// One update of `segments`. All pointers are to element 0 of the rank's range, which starts at
// arena element `segments.front().range.begin`; `gradients` is set to zero on the way. Uses the
// threads of ATen; the result does not depend on their number.
void AdamWStep(const AdamWOptions& options, const std::vector<DecaySegment>& segments, int64_t step,
               double learning_rate, double gradient_scale, float* parameters, float* gradients,
               float* exp_avg, float* exp_avg_sq);

// The same of fp32 tensors of the rank's range that lie where `kernels` runs.
void AdamWStep(const AdamWOptions& options, const std::vector<DecaySegment>& segments, int64_t step,
               double learning_rate, double gradient_scale, const at::Tensor& parameters,
               const at::Tensor& gradients, const at::Tensor& exp_avg, const at::Tensor& exp_avg_sq,
               kernels::device::StepKernels& kernels);

// Sum of squares in fp64, over blocks of fixed size that are added in order: the same bits for any
// number of threads.
double SumOfSquares(const float* values, int64_t numel);
// Of an fp32 tensor that lies where `kernels` runs; waits for the device.
double SumOfSquares(const at::Tensor& values, kernels::device::StepKernels& kernels);

// What to multiply gradients by so that their norm is at most `clip_norm`: torch's
// min(1, clip_norm / (norm + 1e-6)). 1 where clip_norm is 0.
double ClipScale(double gradient_norm, double clip_norm);

}  // namespace moe::training
