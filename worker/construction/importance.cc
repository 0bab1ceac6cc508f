#include "worker/construction/importance.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "worker/kernels/gemm.h"
#include "worker/kernels/parallel.h"

namespace moe::construction {
namespace {

constexpr int64_t kMinColumns = 64;

template <typename T>
T Apply(Kernel kernel, T value) {
  switch (kernel) {
    case Kernel::kPlain:
      return value;
    case Kernel::kL1:
      return std::abs(value);
    case Kernel::kL2:
      return value * value;
  }
  return value;
}

// sums[n] += sum over tokens of the scores. Threads split the neurons: one order of addition.
void AddScores(const model::FfnActivations& ffn, const ImportanceOptions& options,
               std::vector<double>& sums) {
  const bool up = options.projection == Projection::kUp;
  const float* values = up ? ffn.h : ffn.gate_up;
  const float* gradients = up ? ffn.dh : ffn.dgate_up;
  const int64_t stride = up ? ffn.width : 2 * ffn.width;
  kernels::ParallelFor(ffn.width, kMinColumns, [&](int64_t begin, int64_t end) {
    for (int64_t t = 0; t < ffn.tokens; ++t) {
      for (int64_t n = begin; n < end; ++n) {
        const int64_t i = t * stride + n;
        double score = gradients[i];
        if (options.score == ScoreType::kChange) score *= values[i];
        if (options.accumulate == Accumulate::kSample) score = Apply(options.kernel, score);
        sums[n] += score;
      }
    }
  });
}

// A dense model that is run forward and backward for what its FFNs hold meanwhile.
class Observed {
 public:
  Observed(const artefacts::ModelConfig& config, const at::Tensor& parameters,
           std::function<void(const model::FfnActivations&)> observer)
      : model_(config, {.compute = model::ComputeType::kFp32}) {
    MOE_CHECK(!config.is_moe());
    model_.SetParameters(parameters);
    model_.ObserveDenseFfns(std::move(observer));
    // Nobody reads the weights' gradients, so they may pile up.
    gradients_ = at::zeros({model_.layout().arena_numel()}, at::kFloat);
  }

  // The number of targets.
  int64_t Run(const at::Tensor& sample_S) {
    return model_.ForwardBackward(sample_S.unsqueeze(0), {}, /*grad_scale=*/1.0, gradients_)
        .num_targets;
  }

 private:
  model::Model model_;
  at::Tensor gradients_;
};

}  // namespace

std::vector<Scores> MeasureImportance(const artefacts::ModelConfig& config,
                                      const at::Tensor& parameters,
                                      const std::vector<TextGroup>& groups,
                                      const ImportanceOptions& options,
                                      const SampleProgress& progress) {
  const size_t num_layers = config.num_layers, width = config.intermediate_size;
  // [layer][group][neuron]
  std::vector<std::vector<std::vector<double>>> sums(
      num_layers, std::vector<std::vector<double>>(groups.size(), std::vector<double>(width)));
  size_t group = 0;
  Observed model(config, parameters, [&](const model::FfnActivations& ffn) {
    AddScores(ffn, options, sums[ffn.layer][group]);
  });
  int64_t targets = 0, done = 0;
  for (; group < groups.size(); ++group) {
    for (const at::Tensor& sample : groups[group]) {
      targets += model.Run(sample);
      if (!progress(++done)) return {};
    }
  }
  std::vector<Scores> scores(num_layers, Scores(groups.size(), std::vector<float>(width)));
  for (size_t layer = 0; layer < num_layers; ++layer) {
    for (size_t g = 0; g < groups.size(); ++g) {
      std::transform(sums[layer][g].begin(), sums[layer][g].end(), scores[layer][g].begin(),
                     [&](double sum) {
                       if (options.accumulate == Accumulate::kTotal) {
                         sum = Apply(options.kernel, sum);
                       }
                       return static_cast<float>(sum / static_cast<double>(targets));
                     });
    }
  }
  return scores;
}

std::vector<at::Tensor> MeasureCoactivation(const artefacts::ModelConfig& config,
                                            const at::Tensor& parameters, const TextGroup& samples,
                                            Kernel kernel, double threshold, int64_t first_layer,
                                            int64_t num_layers, const SampleProgress& progress) {
  const int64_t I = config.intermediate_size;
  std::vector<at::Tensor> pairs;
  for (int64_t i = 0; i < num_layers; ++i) pairs.push_back(at::zeros({I, I}, at::kFloat));
  std::vector<float> r, products(I * I);
  Observed model(config, parameters, [&](const model::FfnActivations& ffn) {
    if (ffn.layer < first_layer || ffn.layer >= first_layer + num_layers) return;
    r.resize(ffn.tokens * I);
    std::transform(ffn.h, ffn.h + ffn.tokens * I, r.begin(),
                   [&](float h) { return Apply(kernel, h); });
    const kernels::Matrix<const float> r_SI(r.data(), ffn.tokens, I);
    kernels::Gemm(r_SI.Transposed(), r_SI, kernels::Output::kOverwrite,
                  kernels::Matrix<float>(products.data(), I, I));
    float* sum = pairs[ffn.layer - first_layer].mutable_data_ptr<float>();
    for (int64_t i = 0; i < I * I; ++i) {
      sum[i] += std::min(products[i], static_cast<float>(threshold));
    }
  });
  int64_t done = 0;
  for (const at::Tensor& sample : samples) {
    model.Run(sample);
    if (!progress(++done)) return {};
  }
  return pairs;
}

}  // namespace moe::construction
