// The gpu-step benchmark: training steps of LLaMA-MoE-3.5B (LLaMA-2-7B as 16 experts, top-4) in
// bf16 on one GPU, with random weights and tokens.
//
//   gpu_step FOLDER [STEPS]      FOLDER has libmoe_cuda.so
//
// A step is 8 micro-batches of 2 x 4,096 tokens, clipping and AdamW. Where the state of all layers
// does not fit the GPU, as many layers as fit are measured. Prints one JSON object:
//   {"gpu", "layers", "layers_of_model", "state_gb", "state_gb_of_model", "step_s",
//    "tokens_per_s", "mfu", "peak_tflops", "loss"}
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "common/json.h"
#include "common/status.h"
#include "planner/flops.h"
#include "tests/published_shapes.h"
#include "worker/cuda/plugin.h"
#include "worker/model/arena.h"
#include "worker/model/model.h"
#include "worker/training/adamw.h"

namespace moe {
namespace {

constexpr int64_t kSequence = 4096, kMicroBatch = 2, kMicroBatches = 8;
constexpr int64_t kStepTokens = kSequence * kMicroBatch * kMicroBatches;
// Parameters, gradients, two moments in fp32, and the bf16 copy.
constexpr double kStateBytes = 4 + 4 + 4 + 4 + 2;
// For activations, logits, gathered rows and the libraries' own.
constexpr double kRoomBytes = 20e9;

double StateGb(const artefacts::ModelConfig& config) {
  return kStateBytes * static_cast<double>(model::ParameterLayout(config).arena_numel()) / 1e9;
}

artefacts::ModelConfig ConfigThatFits(double memory_bytes) {
  artefacts::ModelConfig config = published::Split(published::Llama7B(), 16, 4);
  config.moe.score_scale_factor = 4.0;
  while (config.num_layers > 1 && StateGb(config) * 1e9 + kRoomBytes > memory_bytes) {
    --config.num_layers;
  }
  return config;
}

double Seconds(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// What utilisation is a share of: LibTorch's products of 8,192 x 8,192.
double PeakFlops(const at::TensorOptions& options) {
  constexpr int64_t kSize = 8192;
  constexpr int kProducts = 32;
  const at::Tensor a = at::randn({kSize, kSize}, options), b = at::randn({kSize, kSize}, options);
  at::Tensor c = at::mm(a, b);
  double best = 0;
  for (int run = 0; run < 3; ++run) {
    const double seconds = Seconds([&] {
      for (int i = 0; i < kProducts; ++i) at::mm_out(c, a, b);
      c.select(0, 0).select(0, 0).item<float>();  // waits
    });
    best = std::max(best, kProducts * 2.0 * std::pow(kSize, 3) / seconds);
  }
  return best;
}

class Step {
 public:
  Step(const artefacts::ModelConfig& config, kernels::device::StepKernels& kernels)
      : kernels_(kernels),
        model_(config, {.compute = model::ComputeType::kBf16, .kernels = &kernels}),
        segments_(training::DecaySegments(model_.layout(),
                                          {.begin = 0, .end = model_.layout().arena_numel()})) {
    const at::TensorOptions options =
        at::TensorOptions().dtype(at::kFloat).device(kernels.device());
    const int64_t numel = model_.layout().arena_numel();
    parameters_ = at::zeros({numel}, options);
    for (const model::Parameter& parameter : model_.layout().parameters()) {
      const at::Tensor place = model::View(parameters_, parameter);
      parameter.decay ? place.normal_(0.0, 0.02) : place.fill_(1.0);
    }
    gradients_ = at::zeros({numel}, options);
    exp_avg_ = at::zeros({numel}, options);
    exp_avg_sq_ = at::zeros({numel}, options);
    model_.SetParameters(parameters_);
    for (int64_t i = 0; i < kMicroBatches; ++i) {
      batches_.push_back(
          model::ToBatch(at::randint(config.vocab_size, {kMicroBatch, kSequence}, at::kLong)));
    }
  }

  // Returns the mean loss.
  double Run() {
    double loss = 0;
    for (int64_t i = 0; i < kMicroBatches; ++i) {
      const model::BatchResult result = model_.ForwardBackward(
          batches_[static_cast<size_t>(i)], {.seed = 17, .first_sample = i * kMicroBatch},
          {.target = 1.0 / static_cast<double>(kStepTokens), .balance = 1.0 / kMicroBatches},
          gradients_);
      loss += result.MeanLoss() / kMicroBatches;
    }
    const double norm = std::sqrt(training::SumOfSquares(gradients_, kernels_));
    training::AdamWStep({}, segments_, ++step_, /*learning_rate=*/2e-4,
                        training::ClipScale(norm, 1.0), parameters_, gradients_, exp_avg_,
                        exp_avg_sq_, kernels_);
    for (int64_t i = -1; i <= model_.config().num_layers; ++i) model_.RefreshLayer(i);
    parameters_.select(0, 0).item<float>();  // waits
    return loss;
  }

 private:
  kernels::device::StepKernels& kernels_;
  model::Model model_;
  const std::vector<training::DecaySegment> segments_;
  at::Tensor parameters_, gradients_, exp_avg_, exp_avg_sq_;
  std::vector<model::Batch> batches_;
  int64_t step_ = 0;
};

int Main(const std::string& folder, int steps) {
  const absl::StatusOr<cuda::Plugin*> plugin = cuda::LoadPlugin(folder);
  if (!plugin.ok()) {
    std::fprintf(stderr, "gpu_step: %s\n", Message(plugin.status()).c_str());
    return 1;
  }
  const cuda::DeviceInfo gpu = (*plugin)->Describe(0);
  const auto kernels = (*plugin)->MakeStepKernels(0);
  const artefacts::ModelConfig config = ConfigThatFits(static_cast<double>(gpu.memory_bytes));
  artefacts::ModelConfig whole = config;
  whole.num_layers = published::Llama7B().num_layers;
  const double peak = PeakFlops(at::TensorOptions().dtype(at::kBFloat16).device(kernels->device()));
  Step step(config, *kernels);
  double loss = 0, best = 1e9;
  for (int i = 0; i <= steps; ++i) {
    const double seconds = Seconds([&] { loss = step.Run(); });
    std::fprintf(stderr, "step %d: %.3f s, loss %.4f\n", i, seconds, loss);
    if (i > 0) best = std::min(best, seconds);  // the first one allocates and chooses algorithms
  }
  const double tokens_per_s = static_cast<double>(kStepTokens) / best;
  const double flops = planner::CountFlops(config, kSequence).PerTrainedToken();
  const Json result = {{"gpu", gpu.name},
                       {"layers", config.num_layers},
                       {"layers_of_model", whole.num_layers},
                       {"state_gb", StateGb(config)},
                       {"state_gb_of_model", StateGb(whole)},
                       {"step_s", best},
                       {"tokens_per_s", tokens_per_s},
                       {"mfu", tokens_per_s * flops / peak},
                       {"peak_tflops", peak / 1e12},
                       {"loss", loss}};
  std::printf("%s\n", result.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace moe

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: gpu_step FOLDER [STEPS]\n");
    return 2;
  }
  return moe::Main(argv[1], argc > 2 ? std::atoi(argv[2]) : 5);
}
