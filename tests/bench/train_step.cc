// Our side of the train-step benchmark: one training step of a mixture with 16 experts, top-4, on
// 8 x 512 tokens in two micro-batches, on request.
//
//   train_step THREADS bf16|fp32 FOLDER smollm2|slice7b
//
// SHAPE is SmolLM2-135M's, or four layers of LLaMA-2-7B's.
// Writes the inputs (parameters.f32, layout.json, tokens.i64, noise.f32) to FOLDER, then obeys one
// word per line on standard input, answering each with one JSON object on a line:
//   step   a whole step: two micro-batches, clipping, AdamW
//          {"seconds", "loss", "norm", "model_s", "optimizer_s", "peak_rss_mib"}
//   experts  the experts of one layer with their gate, forward and backward, on a micro-batch
//          {"seconds", "gflop"}
//   peak   at::mm on the step's own shapes
//          {"gflop_per_step", "gflops", "expert_gflops", "shapes": [{"name", "gflops"}]}
// tests/bench/train_step.py drives it beside the same step in plain PyTorch.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "common/json.h"
#include "tests/published_shapes.h"
#include "worker/kernels/buffer.h"
#include "worker/kernels/convert.h"
#include "worker/kernels/parallel.h"
#include "worker/model/ffn.h"
#include "worker/model/gate.h"
#include "worker/model/model.h"
#include "worker/training/adamw.h"

namespace moe {
namespace {

constexpr int64_t kBatch = 8, kMicroBatches = 2, kSequence = 512;
constexpr int64_t kMicroBatch = kBatch / kMicroBatches, kTokens = kMicroBatch * kSequence;
constexpr double kLearningRate = 2e-4, kClipNorm = 1.0;
constexpr uint64_t kNoiseSeed = 17;

artefacts::ModelConfig ConfigOf(const std::string& shape) {
  artefacts::ModelConfig config = published::SmolLm2();
  if (shape == "slice7b") {
    config = published::Llama7B();
    config.num_layers = 4;
  }
  config = published::Split(config, 16, 4);
  config.moe.score_scale_factor = 4.0;
  return config;
}

double Seconds(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

at::Tensor InitialParameters(const model::ParameterLayout& layout) {
  at::manual_seed(1);
  at::Tensor parameters = at::zeros({layout.arena_numel()}, at::kFloat);
  for (const model::Parameter& parameter : layout.parameters()) {
    at::Tensor place = parameters.narrow(0, parameter.offset, parameter.numel);
    if (parameter.decay) {
      place.copy_(at::randn({parameter.numel}, at::kFloat).mul_(0.02));
    } else {
      place.fill_(1.0);
    }
  }
  return parameters;
}

class Step {
 public:
  Step(const artefacts::ModelConfig& config, model::ComputeType compute)
      : config_(config),
        model_(config, {.compute = compute}),
        parameters_(InitialParameters(model_.layout())),
        gradients_(at::zeros_like(parameters_)),
        exp_avg_(at::zeros_like(parameters_)),
        exp_avg_sq_(at::zeros_like(parameters_)),
        segments_(training::DecaySegments(model_.layout(),
                                          {.begin = 0, .end = model_.layout().arena_numel()})) {
    tokens_ = at::randint(config.vocab_size, {kBatch, kSequence}, at::kLong);
    model_.SetParameters(parameters_);
  }

  Json Run() {
    double loss = 0, norm = 0, model_s = 0, optimizer_s = 0;
    const double seconds = Seconds([&] {
      model_s = Seconds([&] {
        for (int64_t m = 0; m < kMicroBatches; ++m) {
          const model::BatchResult result =
              model_.ForwardBackward(tokens_.narrow(0, m * kMicroBatch, kMicroBatch), Noise(m),
                                     1.0 / kMicroBatches, gradients_);
          loss += (result.MeanLoss() + result.balance_loss) / kMicroBatches;
        }
      });
      optimizer_s = Seconds([&] {
        norm = std::sqrt(
            training::SumOfSquares(gradients_.const_data_ptr<float>(), gradients_.numel()));
        training::AdamWStep({}, segments_, ++step_, kLearningRate,
                            training::ClipScale(norm, kClipNorm), parameters_.data_ptr<float>(),
                            gradients_.data_ptr<float>(), exp_avg_.data_ptr<float>(),
                            exp_avg_sq_.data_ptr<float>());
        model_.SetParameters(parameters_);
      });
    });
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return {{"seconds", seconds},
            {"loss", loss},
            {"norm", norm},
            {"model_s", model_s},
            {"optimizer_s", optimizer_s},
            {"peak_rss_mib", usage.ru_maxrss / 1024}};
  }

  void WriteInputs(const std::string& folder) const {
    auto write = [&](const std::string& name, const void* data, size_t bytes) {
      std::ofstream file(folder + "/" + name, std::ios::binary);
      file.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
      if (!file.flush()) throw std::runtime_error("cannot write " + folder + "/" + name);
    };
    write("parameters.f32", parameters_.const_data_ptr<float>(), parameters_.nbytes());
    write("tokens.i64", tokens_.const_data_ptr<int64_t>(), tokens_.nbytes());
    Json layout = Json::array();
    for (const model::Parameter& p : model_.layout().parameters()) {
      layout.push_back(
          {{"name", p.name}, {"shape", p.shape}, {"offset", p.offset}, {"numel", p.numel}});
    }
    const std::string text = layout.dump();
    write("layout.json", text.data(), text.size());

    const artefacts::ModelConfig& config = config_;
    const int64_t per_layer = kTokens * config.moe.num_experts;  // [micro-batch, layer, T, N]
    std::vector<float> noise(kMicroBatches * config.num_layers * per_layer);
    for (int64_t m = 0; m < kMicroBatches; ++m) {
      for (int64_t layer = 0; layer < config.num_layers; ++layer) {
        model::DrawGateNoise(Noise(m), layer, kMicroBatch, kSequence, config.moe.num_experts,
                             noise.data() + (m * config.num_layers + layer) * per_layer);
      }
    }
    write("noise.f32", noise.data(), noise.size() * sizeof(float));
  }

 private:
  static model::NoiseContext Noise(int64_t micro_batch) {
    return {.seed = kNoiseSeed, .first_sample = micro_batch * kMicroBatch};
  }

  const artefacts::ModelConfig config_;
  model::Model model_;
  at::Tensor parameters_, gradients_, exp_avg_, exp_avg_sq_, tokens_;
  std::vector<training::DecaySegment> segments_;
  int64_t step_ = 0;
};

// One product of the step, [m, k] x [k, n], as often as it occurs in a step.
struct Shape {
  std::string name;
  int64_t m, k, n;
  bool a_transposed, b_transposed;
  int64_t count;
  bool is_expert = false;  // many at a time: each may have a thread of its own
  int64_t batch = 1;       // products in one at::bmm
  double counted = 1.0;    // the share of it that the model needs: half for causal attention

  double Gflop() const { return 2e-9 * m * k * n * batch * counted; }
};

// y = x w^T and its two gradients.
void AddLinear(const std::string& name, int64_t rows, int64_t in, int64_t out, int64_t count,
               bool is_expert, std::vector<Shape>& shapes) {
  shapes.push_back({name, rows, in, out, false, true, count, is_expert});
  shapes.push_back({name + " dx", rows, out, in, false, false, count, is_expert});
  shapes.push_back({name + " dw", out, rows, in, true, false, count, is_expert});
}

// Expert products at the mean number of rows per expert.
std::vector<Shape> StepShapes(const artefacts::ModelConfig& c) {
  const int64_t layers = c.num_layers * kMicroBatches, d = c.hidden_size, n = c.moe.expert_width;
  const int64_t rows = kTokens * c.moe.top_k / c.moe.num_experts;
  std::vector<Shape> shapes;
  AddLinear("qkv", kTokens, d, (c.num_heads + 2 * c.num_kv_heads) * c.head_dim, layers, false,
            shapes);
  AddLinear("attention out", kTokens, c.num_heads * c.head_dim, d, layers, false, shapes);
  AddLinear("expert gate+up", rows, d, 2 * n, layers * c.moe.num_experts, true, shapes);
  AddLinear("expert down", rows, n, d, layers * c.moe.num_experts, true, shapes);
  AddLinear("head", 512, d, c.vocab_size, kMicroBatches * kTokens / 512, false, shapes);
  // Forward two products, backward four; the scores computed again are not the model's.
  const int64_t heads = kMicroBatch * c.num_heads;
  shapes.push_back({"attention q k^T", kSequence, c.head_dim, kSequence, false, true, 2 * layers,
                    false, heads, 0.5});
  shapes.push_back({"attention p v", kSequence, kSequence, c.head_dim, false, false, 4 * layers,
                    false, heads, 0.5});
  return shapes;
}

struct Operands {
  at::Tensor a, b, c;
};

// As many sets of operands as do not fit the cache together.
std::vector<Operands> MakeOperands(const Shape& shape, at::ScalarType type) {
  constexpr int64_t kCacheBytes = int64_t{48} << 20;
  auto operand = [&](int64_t rows, int64_t cols, bool is_transposed) {
    return is_transposed ? at::randn({shape.batch, cols, rows}).to(type).transpose(1, 2)
                         : at::randn({shape.batch, rows, cols}).to(type);
  };
  std::vector<Operands> sets;
  int64_t bytes = 0;
  while (bytes < kCacheBytes && sets.size() < 64) {
    Operands set{operand(shape.m, shape.k, shape.a_transposed),
                 operand(shape.k, shape.n, shape.b_transposed),
                 at::empty({shape.batch, shape.m, shape.n}, type)};
    bytes += static_cast<int64_t>(set.a.nbytes() + set.b.nbytes() + set.c.nbytes());
    sets.push_back(std::move(set));
  }
  return sets;
}

void Multiply(const Shape& shape, Operands& set) {
  if (shape.batch > 1) {
    at::bmm_out(set.c, set.a, set.b);
    return;
  }
  at::Tensor c = set.c[0];
  at::mm_out(c, set.a[0], set.b[0]);
}

// The fastest of repeated calls of `body`, which does `work` products, per product.
double BestSeconds(size_t least_calls, int64_t work, const std::function<void(size_t)>& body) {
  constexpr double kBudgetSeconds = 0.2;
  double best = 1e9, spent = 0;
  for (size_t i = 0; spent < kBudgetSeconds || i < least_calls; ++i) {
    const double seconds = Seconds([&] { body(i); });
    best = std::min(best, seconds);
    spent += seconds;
    if (spent > 4 * kBudgetSeconds) break;
  }
  return best / static_cast<double>(work);
}

// The better of what there is: all threads on each product, and for experts also a thread for each.
double SecondsOf(const Shape& shape, at::ScalarType type) {
  std::vector<Operands> sets = MakeOperands(shape, type);
  const double together =
      BestSeconds(2 * sets.size(), 1, [&](size_t i) { Multiply(shape, sets[i % sets.size()]); });
  if (!shape.is_expert) return together;
  const int64_t count = static_cast<int64_t>(sets.size());
  const double side_by_side = BestSeconds(2, count, [&](size_t) {
    kernels::ParallelTasks(count, [&](int64_t, int64_t task) { Multiply(shape, sets[task]); });
  });
  return std::min(together, side_by_side);
}

Json Peak(const artefacts::ModelConfig& config, at::ScalarType type) {
  double gflop = 0, seconds = 0, expert_gflop = 0, expert_seconds = 0;
  Json rows = Json::array();
  for (const Shape& shape : StepShapes(config)) {
    // Causal attention needs half of the full product, at the full product's rate.
    const double rate = shape.Gflop() / shape.counted / SecondsOf(shape, type);
    const double work = static_cast<double>(shape.count) * shape.Gflop();
    gflop += work;
    seconds += work / rate;
    if (shape.is_expert) expert_gflop += work;
    if (shape.is_expert) expert_seconds += work / rate;
    rows.push_back({{"name", shape.name}, {"gflops", rate}});
  }
  return {{"gflop_per_step", gflop},
          {"gflops", gflop / seconds},
          {"expert_gflops", expert_gflop / expert_seconds},
          {"shapes", rows}};
}

// The experts of one layer with their gate, on a micro-batch of random tokens.
template <typename Float>
class ExpertBlock {
 public:
  explicit ExpertBlock(const artefacts::ModelConfig& config) : config_(config) {
    const int64_t d = config.hidden_size, N = config.moe.num_experts, n = config.moe.expert_width;
    const auto random = [](int64_t numel, auto& buffer) {
      const at::Tensor values = at::randn({numel}, at::kFloat).mul_(0.02);
      auto* to = buffer.Reserve(numel);
      kernels::ConvertRows(values.const_data_ptr<float>(), numel, 1, numel, to, numel);
    };
    random(kTokens * d, x_);
    random(kTokens * d, x_fp32_);
    random(kTokens * d, dy_);
    random(kTokens * N, noise_);
    random(N * 3 * n * d, weights_);
    random(2 * N * d + N * N, gate_);
    gradients_ = at::zeros({N * 3 * n * d + 2 * N * d + N * N}, at::kFloat);
    y_ = at::zeros({kTokens * d}, at::kFloat);
    dx_ = at::zeros({kTokens * d}, at::kFloat);
  }

  // Multiplications of the experts alone: what the limit is made of.
  double Gflop() const {
    const artefacts::MoeConfig& moe = config_.moe;
    return 3 * 2e-9 * 3 * static_cast<double>(config_.hidden_size * moe.expert_width * moe.top_k) *
           kTokens;
  }

  double Run() {
    const int64_t d = config_.hidden_size, N = config_.moe.num_experts,
                  n = config_.moe.expert_width;
    const float* gate = gate_.data();
    const model::FfnWeights<Float> weights = {
        .gate_up = weights_.data(),
        .down = weights_.data() + N * 2 * n * d,
        .gate = {.router_0 = gate, .router_2 = gate + 2 * N * d, .noise = gate + N * d},
        .scale = 4.0f};
    float* gradients = gradients_.mutable_data_ptr<float>();
    float* gate_gradients = gradients + N * 3 * n * d;
    const model::FfnGradients into = {.gate_up = gradients,
                                      .down = gradients + N * 2 * n * d,
                                      .gate = {.router_0 = gate_gradients,
                                               .router_2 = gate_gradients + 2 * N * d,
                                               .noise = gate_gradients + N * d}};
    return Seconds([&] {
      model::MoeFfnForward(config_.moe, model::LoadEstimator::kCorrect, weights, x_.data(),
                           x_fp32_.data(), noise_.data(), x_fp32_.data(), kTokens, d, saved_,
                           scratch_, y_.mutable_data_ptr<float>());
      model::MoeFfnBackward(config_.moe, model::LoadEstimator::kCorrect, weights, x_.data(),
                            x_fp32_.data(), dy_.data(), 1.0, kTokens, d, saved_, scratch_, into,
                            dx_.mutable_data_ptr<float>());
    });
  }

 private:
  const artefacts::ModelConfig config_;
  kernels::Buffer<Float> x_, dy_, weights_;
  kernels::Buffer<float> x_fp32_, noise_, gate_;
  at::Tensor gradients_, y_, dx_;
  model::FfnSaved<Float> saved_;
  model::FfnScratch<Float> scratch_;
};

template <typename Float>
Json Experts(const artefacts::ModelConfig& config) {
  constexpr int kRuns = 20;
  ExpertBlock<Float> block(config);
  std::vector<double> seconds;
  for (int i = 0; i < kRuns; ++i) seconds.push_back(block.Run());
  std::nth_element(seconds.begin(), seconds.begin() + kRuns / 2, seconds.end());
  return {{"seconds", seconds[kRuns / 2]}, {"gflop", block.Gflop()}};
}

int Main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: train_step THREADS bf16|fp32 FOLDER smollm2|slice7b\n");
    return 2;
  }
  at::set_num_threads(std::stoi(argv[1]));
  const bool is_bf16 = std::string(argv[2]) == "bf16";
  const artefacts::ModelConfig config = ConfigOf(argv[4]);
  Step step(config, is_bf16 ? model::ComputeType::kBf16 : model::ComputeType::kFp32);
  if (config.num_layers > 4) step.WriteInputs(argv[3]);  // the slice has no peer to read them
  std::printf("{\"ready\": true}\n");
  std::fflush(stdout);
  for (std::string command; std::getline(std::cin, command);) {
    const Json answer = command == "peak" ? Peak(config, is_bf16 ? at::kBFloat16 : at::kFloat)
                        : command == "experts"
                            ? is_bf16 ? Experts<c10::BFloat16>(config) : Experts<float>(config)
                            : step.Run();
    std::printf("%s\n", answer.dump().c_str());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace moe

int main(int argc, char** argv) { return moe::Main(argc, argv); }
