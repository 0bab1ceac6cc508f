#include "worker/training/adamw.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>

#include <algorithm>
#include <cmath>

#include "common/check.h"

// One body for all vector widths; the loader picks the widest that the CPU has.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define MOE_VECTOR_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define MOE_VECTOR_CLONES
#endif

namespace moe::training {
namespace {

using kernels::device::AdamWCoefficients;

// Large enough to hide the start of a task, small enough to balance: 256 KiB of each array.
constexpr int64_t kBlockElements = 1 << 16;

MOE_VECTOR_CLONES
void UpdateBlock(const AdamWCoefficients& c, int64_t count, float* __restrict p,
                 float* __restrict g, float* __restrict m, float* __restrict v) {
  for (int64_t i = 0; i < count; ++i) {
    float parameter = p[i], first = m[i], second = v[i];
    kernels::device::AdamWElement(c, g[i], parameter, first, second);
    p[i] = parameter;
    m[i] = first;
    v[i] = second;
    g[i] = 0.0f;
  }
}

// Eight running sums, so that the order of additions does not depend on the vector width.
MOE_VECTOR_CLONES
double SumOfSquaresOfBlock(const float* values, int64_t count) {
  constexpr int kLanes = 8;
  double sums[kLanes] = {};
  const int64_t whole = count / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const double value = values[i + lane];
      sums[lane] += value * value;
    }
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  for (int64_t i = whole; i < count; ++i) total += static_cast<double>(values[i]) * values[i];
  return total;
}

// body(coefficients, base, numel): the segments' elements, counted from the first of all.
template <typename Body>
void ForEachSegment(const AdamWOptions& options, const std::vector<DecaySegment>& segments,
                    int64_t step, double learning_rate, double gradient_scale, const Body& body) {
  MOE_CHECK(step >= 1);
  const double bias_correction1 = 1.0 - std::pow(options.beta1, static_cast<double>(step));
  const double bias_correction2 = 1.0 - std::pow(options.beta2, static_cast<double>(step));
  AdamWCoefficients coefficients = {
      .decay = 1.0f,
      .beta1 = static_cast<float>(options.beta1),
      .one_minus_beta1 = static_cast<float>(1.0 - options.beta1),
      .beta2 = static_cast<float>(options.beta2),
      .one_minus_beta2 = static_cast<float>(1.0 - options.beta2),
      .step_size = 0.0f,
      .sqrt_bias_correction2 = static_cast<float>(std::sqrt(bias_correction2)),
      .epsilon = static_cast<float>(options.epsilon),
      .gradient_scale = static_cast<float>(gradient_scale),
  };
  for (const DecaySegment& segment : segments) {
    const double rate = learning_rate * segment.learning_rate_ratio;
    coefficients.step_size = static_cast<float>(rate / bias_correction1);
    coefficients.decay =
        segment.decay ? static_cast<float>(1.0 - rate * options.weight_decay) : 1.0f;
    body(coefficients, segment.range.begin - segments.front().range.begin, segment.range.numel());
  }
}

}  // namespace

std::vector<DecaySegment> DecaySegments(const model::ParameterLayout& layout, parallel::Range range,
                                        const LearningRateRatios& ratios) {
  std::vector<DecaySegment> segments;
  for (const model::Parameter& parameter : layout.parameters()) {
    const parallel::Range piece = parallel::Intersection(
        {parameter.offset, parameter.offset + model::Padded(parameter.numel)}, range);
    if (piece.numel() == 0) continue;
    const double ratio = RatioOf(ratios, parameter);
    if (!segments.empty() && segments.back().decay == parameter.decay &&
        segments.back().learning_rate_ratio == ratio) {
      segments.back().range.end = piece.end;
    } else {
      segments.push_back({piece, parameter.decay, ratio});
    }
  }
  return segments;
}

void AdamWStep(const AdamWOptions& options, const std::vector<DecaySegment>& segments, int64_t step,
               double learning_rate, double gradient_scale, float* parameters, float* gradients,
               float* exp_avg, float* exp_avg_sq) {
  ForEachSegment(options, segments, step, learning_rate, gradient_scale,
                 [&](const AdamWCoefficients& coefficients, int64_t base, int64_t numel) {
                   at::parallel_for(0, numel, kBlockElements, [&](int64_t begin, int64_t end) {
                     const int64_t first = base + begin;
                     UpdateBlock(coefficients, end - begin, parameters + first, gradients + first,
                                 exp_avg + first, exp_avg_sq + first);
                   });
                 });
}

void AdamWStep(const AdamWOptions& options, const std::vector<DecaySegment>& segments, int64_t step,
               double learning_rate, double gradient_scale, const at::Tensor& parameters,
               const at::Tensor& gradients, const at::Tensor& exp_avg, const at::Tensor& exp_avg_sq,
               kernels::device::StepKernels& kernels) {
  using kernels::device::AdamW;
  ForEachSegment(
      options, segments, step, learning_rate, gradient_scale,
      [&](const AdamWCoefficients& coefficients, int64_t base, int64_t numel) {
        kernels.Run(AdamW{.rows = kernels::device::PartsOf(numel, AdamW::kElementsPerPart),
                          .numel = numel,
                          .coefficients = coefficients,
                          .parameters = parameters.mutable_data_ptr<float>() + base,
                          .gradients = gradients.mutable_data_ptr<float>() + base,
                          .exp_avg = exp_avg.mutable_data_ptr<float>() + base,
                          .exp_avg_sq = exp_avg_sq.mutable_data_ptr<float>() + base});
      });
}

double SumOfSquares(const float* values, int64_t numel) {
  const int64_t num_blocks = (numel + kBlockElements - 1) / kBlockElements;
  std::vector<double> sums(static_cast<size_t>(num_blocks));
  at::parallel_for(0, num_blocks, 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      const int64_t begin = block * kBlockElements;
      sums[static_cast<size_t>(block)] =
          SumOfSquaresOfBlock(values + begin, std::min(kBlockElements, numel - begin));
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

double SumOfSquares(const at::Tensor& values, kernels::device::StepKernels& kernels) {
  using kernels::device::SumSquares;
  const int64_t numel = values.numel(),
                parts = kernels::device::PartsOf(numel, SumSquares::kElementsPerPart);
  if (parts == 0) return 0;
  const at::Tensor sums = at::empty({parts}, values.options().dtype(at::kDouble));
  kernels.Run(SumSquares{.rows = parts,
                         .numel = numel,
                         .values = values.const_data_ptr<float>(),
                         .sums = sums.mutable_data_ptr<double>()});
  return at::sum(sums).item<double>();
}

double ClipScale(double gradient_norm, double clip_norm) {
  if (clip_norm <= 0) return 1.0;
  return std::min(1.0, clip_norm / (gradient_norm + 1e-6));
}

}  // namespace moe::training
