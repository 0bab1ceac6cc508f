// Our side of the train-step benchmark: one training step of SmolLM2-135M's shape with 16 experts,
// top-4, on 8 x 512 tokens in two micro-batches, on request.
//
//   train_step THREADS bf16|fp32 FOLDER
//
// Writes the inputs (parameters.f32, layout.json, tokens.i64, noise.f32) to FOLDER, then obeys one
// word per line on standard input, answering each with one JSON object on a line:
//   step   a whole step: two micro-batches, clipping, AdamW
//          {"seconds", "loss", "norm", "model_s", "optimizer_s", "peak_rss_mib"}
//   peak   at::mm on the step's own shapes
//          {"gflop_per_step", "gflops", "shapes": [{"name", "gflops"}]}
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

#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "common/json.h"
#include "worker/model/gate.h"
#include "worker/model/model.h"
#include "worker/training/adamw.h"

namespace moe {
namespace {

constexpr int64_t kBatch = 8, kMicroBatches = 2, kSequence = 512;
constexpr int64_t kMicroBatch = kBatch / kMicroBatches, kTokens = kMicroBatch * kSequence;
constexpr double kLearningRate = 2e-4, kClipNorm = 1.0;
constexpr uint64_t kNoiseSeed = 17;

artefacts::ModelConfig Config() {
  artefacts::ModelConfig config;
  config.vocab_size = 49152;
  config.hidden_size = 576;
  config.intermediate_size = 1536;
  config.num_layers = 30;
  config.num_heads = 9;
  config.num_kv_heads = 3;
  config.head_dim = 64;
  config.context_length = 8192;
  config.rope_theta = 100000.0;
  config.tie_word_embeddings = true;
  config.moe.num_experts = 16;
  config.moe.top_k = 4;
  config.moe.expert_width = 96;
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
  explicit Step(model::ComputeType compute)
      : model_(Config(), {.compute = compute}),
        parameters_(InitialParameters(model_.layout())),
        gradients_(at::zeros_like(parameters_)),
        exp_avg_(at::zeros_like(parameters_)),
        exp_avg_sq_(at::zeros_like(parameters_)),
        segments_(training::DecaySegments(model_.layout(),
                                          {.begin = 0, .end = model_.layout().arena_numel()})) {
    tokens_ = at::randint(Config().vocab_size, {kBatch, kSequence}, at::kLong);
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

    const artefacts::ModelConfig config = Config();
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
  int64_t batch = 1;     // products in one at::bmm
  double counted = 1.0;  // the share of it that the model needs: half for causal attention

  double Gflop() const { return 2e-9 * m * k * n * batch * counted; }
};

// y = x w^T and its two gradients.
void AddLinear(const std::string& name, int64_t rows, int64_t in, int64_t out, int64_t count,
               std::vector<Shape>& shapes) {
  shapes.push_back({name, rows, in, out, false, true, count});
  shapes.push_back({name + " dx", rows, out, in, false, false, count});
  shapes.push_back({name + " dw", out, rows, in, true, false, count});
}

// Expert products at the mean number of rows per expert.
std::vector<Shape> StepShapes() {
  const artefacts::ModelConfig c = Config();
  const int64_t layers = c.num_layers * kMicroBatches, d = c.hidden_size, n = c.moe.expert_width;
  const int64_t rows = kTokens * c.moe.top_k / c.moe.num_experts;
  std::vector<Shape> shapes;
  AddLinear("qkv", kTokens, d, (c.num_heads + 2 * c.num_kv_heads) * c.head_dim, layers, shapes);
  AddLinear("attention out", kTokens, c.num_heads * c.head_dim, d, layers, shapes);
  AddLinear("expert gate+up", rows, d, 2 * n, layers * c.moe.num_experts, shapes);
  AddLinear("expert down", rows, n, d, layers * c.moe.num_experts, shapes);
  AddLinear("head", 512, d, c.vocab_size, kMicroBatches * kTokens / 512, shapes);
  // Forward two products, backward four; the scores computed again are not the model's.
  const int64_t heads = kMicroBatch * c.num_heads;
  shapes.push_back(
      {"attention q k^T", kSequence, c.head_dim, kSequence, false, true, 2 * layers, heads, 0.5});
  shapes.push_back(
      {"attention p v", kSequence, kSequence, c.head_dim, false, false, 4 * layers, heads, 0.5});
  return shapes;
}

// The fastest of repeated calls, on buffers that together do not fit the cache.
double SecondsOf(const Shape& shape, at::ScalarType type) {
  constexpr int64_t kCacheBytes = int64_t{48} << 20;
  constexpr double kBudgetSeconds = 0.2;
  auto operand = [&](int64_t rows, int64_t cols, bool is_transposed) {
    return is_transposed ? at::randn({shape.batch, cols, rows}).to(type).transpose(1, 2)
                         : at::randn({shape.batch, rows, cols}).to(type);
  };
  struct Set {
    at::Tensor a, b, c;
  };
  std::vector<Set> sets;
  int64_t bytes = 0;
  while (bytes < kCacheBytes && sets.size() < 64) {
    Set set{operand(shape.m, shape.k, shape.a_transposed),
            operand(shape.k, shape.n, shape.b_transposed),
            at::empty({shape.batch, shape.m, shape.n}, type)};
    bytes += static_cast<int64_t>(set.a.nbytes() + set.b.nbytes() + set.c.nbytes());
    sets.push_back(std::move(set));
  }
  double best = 1e9, spent = 0;
  for (size_t i = 0; spent < kBudgetSeconds || i < 2 * sets.size(); ++i) {
    Set& set = sets[i % sets.size()];
    at::Tensor c = set.c[0];
    const double seconds = Seconds([&] {
      if (shape.batch == 1) {
        at::mm_out(c, set.a[0], set.b[0]);
      } else {
        at::bmm_out(set.c, set.a, set.b);
      }
    });
    best = std::min(best, seconds);
    spent += seconds;
    if (spent > 4 * kBudgetSeconds) break;
  }
  return best;
}

Json Peak(at::ScalarType type) {
  double gflop = 0, seconds = 0;
  Json rows = Json::array();
  for (const Shape& shape : StepShapes()) {
    // Causal attention needs half of the full product, at the full product's rate.
    const double rate = shape.Gflop() / shape.counted / SecondsOf(shape, type);
    gflop += static_cast<double>(shape.count) * shape.Gflop();
    seconds += static_cast<double>(shape.count) * shape.Gflop() / rate;
    rows.push_back({{"name", shape.name}, {"gflops", rate}});
  }
  return {{"gflop_per_step", gflop}, {"gflops", gflop / seconds}, {"shapes", rows}};
}

int Main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: train_step THREADS bf16|fp32 FOLDER\n");
    return 2;
  }
  at::set_num_threads(std::stoi(argv[1]));
  const bool is_bf16 = std::string(argv[2]) == "bf16";
  Step step(is_bf16 ? model::ComputeType::kBf16 : model::ComputeType::kFp32);
  step.WriteInputs(argv[3]);
  std::printf("{\"ready\": true}\n");
  std::fflush(stdout);
  for (std::string command; std::getline(std::cin, command);) {
    const Json answer = command == "peak" ? Peak(is_bf16 ? at::kBFloat16 : at::kFloat) : step.Run();
    std::printf("%s\n", answer.dump().c_str());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace moe

int main(int argc, char** argv) { return moe::Main(argc, argv); }
