#include "worker/rank/probe.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/BFloat16.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/file.h"
#include "common/status.h"
#include "planner/train_plan.h"
#include "worker/kernels/attention.h"
#include "worker/kernels/buffer.h"
#include "worker/kernels/gemm.h"
#include "worker/model/ffn.h"
#include "worker/model/lm_head.h"
#include "worker/training/adamw.h"

namespace moe::rank {
namespace {

using kernels::Buffer;
using kernels::Matrix;

constexpr double kSecondsPerKernel = 0.12;
constexpr int kLeastRuns = 3;
constexpr int64_t kSamples = 4, kSequence = 512, kTokens = kSamples * kSequence;

// Layers of SmolLM2 as 16 experts, top-4, with a small vocabulary.
artefacts::ModelConfig ProbedModel() {
  artefacts::ModelConfig config;
  config.vocab_size = 4096;
  config.hidden_size = 576;
  config.intermediate_size = 1536;
  config.num_layers = 2;
  config.num_heads = 9;
  config.num_kv_heads = 3;
  config.head_dim = 64;
  config.context_length = kSequence;
  config.tie_word_embeddings = true;
  config.moe.num_experts = 16;
  config.moe.top_k = 4;
  config.moe.expert_width = 96;
  return config;
}

// The best of repeated runs: what the machine can do when nothing disturbs.
double BestSeconds(const std::function<void()>& body) {
  using Clock = std::chrono::steady_clock;
  double best = 1e9, spent = 0;
  for (int run = 0; run < kLeastRuns || spent < kSecondsPerKernel; ++run) {
    const Clock::time_point start = Clock::now();
    body();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (run > 0) best = std::min(best, seconds);  // the first one touches its memory
    spent += seconds;
  }
  return best;
}

// Small numbers around zero, without a period that tokens or experts could share.
template <typename Float>
Float* Filled(Buffer<Float>& buffer, int64_t count) {
  Float* data = buffer.Reserve(count);
  uint32_t state = 1;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    data[i] = static_cast<Float>(static_cast<float>(static_cast<int32_t>(state)) * 0x1p-36f);
  }
  return data;
}

// y [T, out] = x [T, in] times a weight [out, in], and the two gradients.
template <typename Float>
double LinearFlops(int64_t in, int64_t out) {
  Buffer<Float> x, weight, y;
  Buffer<float> dx, dweight;
  Filled(x, kTokens * in);
  Filled(weight, out * in);
  Filled(dweight, out * in);
  const Matrix<const Float> rows(x.data(), kTokens, in), matrix(weight.data(), out, in);
  const Matrix<Float> result(y.Reserve(kTokens * out), kTokens, out);
  const Matrix<const Float> dy(y.data(), kTokens, out);
  dx.Reserve(kTokens * in);
  const double seconds = BestSeconds([&] {
    kernels::Gemm(rows, matrix.Transposed(), kernels::Output::kOverwrite, result);
    kernels::Gemm(dy, matrix, kernels::Output::kOverwrite, Matrix<float>(dx.data(), kTokens, in));
    kernels::Gemm(dy.Transposed(), rows, kernels::Output::kAdd,
                  Matrix<float>(dweight.data(), out, in));
  });
  return 3 * 2.0 * static_cast<double>(kTokens * in * out) / seconds;
}

template <typename Float>
double ExpertFlops(const artefacts::ModelConfig& config) {
  const int64_t d = config.hidden_size, N = config.moe.num_experts, n = config.moe.expert_width;
  const int64_t gate_numel = 2 * N * d + N * N, experts_numel = 3 * N * n * d;
  Buffer<Float> x, dy, experts;
  Buffer<float> x_fp32, noise, gate, gradients, y, dx;
  Filled(gate, gate_numel);
  Filled(gradients, experts_numel + gate_numel);
  const auto gate_at = [&](auto* first) {
    return model::GateArena<std::remove_pointer_t<decltype(first)>>{
        .router_0 = first, .router_2 = first + 2 * N * d, .noise = first + N * d};
  };
  const model::FfnWeights<Float> weights = {.gate_up = Filled(experts, experts_numel),
                                            .down = experts.data() + 2 * N * n * d,
                                            .gate = gate_at(std::as_const(gate).data())};
  const model::FfnGradients into = {.gate_up = gradients.data(),
                                    .down = gradients.data() + 2 * N * n * d,
                                    .gate = gate_at(gradients.data() + experts_numel)};
  Filled(x, kTokens * d);
  Filled(x_fp32, kTokens * d);
  Filled(dy, kTokens * d);
  Filled(noise, kTokens * N);
  for (int64_t i = 0; i < kTokens * N; ++i) noise.data()[i] *= 20.0f;  // near a standard normal's
  model::FfnSaved<Float> saved;
  model::FfnScratch<Float> scratch;
  const double seconds = BestSeconds([&] {
    model::MoeFfnForward(config.moe, model::LoadEstimator::kCorrect, weights, x.data(),
                         x_fp32.data(), noise.data(), x_fp32.data(), kTokens, d, saved, scratch,
                         y.Reserve(kTokens * d));
    model::MoeFfnBackward(config.moe, model::LoadEstimator::kCorrect, weights, x.data(),
                          x_fp32.data(), dy.data(), /*balance_scale=*/1.0, kTokens, d, saved,
                          scratch, into, dx.Reserve(kTokens * d));
  });
  return 3 * 2.0 * static_cast<double>(kTokens * config.moe.top_k * 3 * n * d) / seconds;
}

template <typename Float>
double AttentionFlops(const artefacts::ModelConfig& config) {
  const kernels::AttentionShape shape = {.batch = kSamples,
                                         .sequence = kSequence,
                                         .heads = config.num_heads,
                                         .kv_heads = config.num_kv_heads,
                                         .head_dim = config.head_dim};
  Buffer<Float> qkv, out, dout, dqkv;
  Buffer<float> log_sum_exp;
  Filled(qkv, kTokens * shape.qkv_width());
  Filled(dout, kTokens * shape.out_width());
  out.Reserve(kTokens * shape.out_width());
  dqkv.Reserve(kTokens * shape.qkv_width());
  log_sum_exp.Reserve(kTokens * shape.heads);
  const double seconds = BestSeconds([&] {
    kernels::AttentionForward<Float>(shape, qkv.data(), out.data(), log_sum_exp.data());
    kernels::AttentionBackward<Float>(shape, dout.data(), qkv.data(), out.data(),
                                      log_sum_exp.data(), dqkv.data());
  });
  // Forward 2 S^2 hd per head (causal, two products), backward twice as much.
  return 3.0 * 2.0 * static_cast<double>(kTokens * kSequence * shape.out_width()) / seconds;
}

template <typename Float>
double HeadFlops(const artefacts::ModelConfig& config) {
  const int64_t d = config.hidden_size, V = config.vocab_size;
  Buffer<Float> h, weight;
  Buffer<float> losses, dh, dweight;
  Filled(h, kTokens * d);
  Filled(weight, V * d);
  Filled(dweight, V * d);
  const std::vector<int64_t> targets(kTokens, V / 2);
  model::LmHeadScratch<Float> scratch;
  const double seconds = BestSeconds([&] {
    model::LmHeadLossBackward(h.data(), weight.data(), targets.data(), kTokens, d, V, 1.0f, scratch,
                              losses.Reserve(kTokens), dh.Reserve(kTokens * d), dweight.data());
  });
  return 3 * 2.0 * static_cast<double>(kTokens * d * V) / seconds;
}

// Of forward and backward of one micro-batch of the whole model.
double PassSeconds(const artefacts::ModelConfig& config, model::ComputeType compute) {
  model::Model model(config, {.compute = compute});
  const at::Tensor parameters = at::randn({model.layout().arena_numel()}, at::kFloat).mul_(0.02);
  model.SetParameters(parameters);
  const at::Tensor tokens = at::randint(config.vocab_size, {kSamples, kSequence}, at::kLong);
  at::Tensor gradients = at::zeros_like(parameters);
  return BestSeconds([&] { model.ForwardBackward(tokens, /*noise=*/{}, 1.0, gradients); });
}

template <typename Float>
planner::ComputeRates MeasureRates(double memory_bytes) {
  constexpr bool kIsBf16 = std::is_same_v<Float, c10::BFloat16>;
  const artefacts::ModelConfig config = ProbedModel();
  planner::Machine machine = {
      .has_bf16 = kIsBf16, .memory_bytes_per_s = memory_bytes, .is_measured = true};
  planner::ComputeRates& rates = kIsBf16 ? machine.bf16 : machine.fp32;
  const int64_t qkv_width = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim;
  rates = {.dense_flops = LinearFlops<Float>(config.hidden_size, qkv_width),
           .expert_flops = ExpertFlops<Float>(config),
           .attention_flops = AttentionFlops<Float>(config),
           .head_flops = HeadFlops<Float>(config)};
  const planner::TrainPlan plan = planner::PlanTraining({.model = config,
                                                         .sequence_length = kSequence,
                                                         .global_batch_samples = kSamples,
                                                         .micro_batch_samples = kSamples,
                                                         .bf16 = kIsBf16},
                                                        machine);
  rates.pass_ratio =
      PassSeconds(config, kIsBf16 ? model::ComputeType::kBf16 : model::ComputeType::kFp32) /
      plan.micro_batch_seconds;
  return rates;
}

// 0 where the kernel does not say.
int64_t ResidentBytes() {
  const absl::StatusOr<std::string> statm = ReadFile("/proc/self/statm");
  if (!statm.ok()) return 0;
  std::istringstream words(*statm);
  int64_t size_pages = 0, resident_pages = 0;
  words >> size_pages >> resident_pages;
  return resident_pages * ::sysconf(_SC_PAGE_SIZE);
}

// The gradients' norm and the update: five reads and four writes of each number.
double UpdateBytes() {
  constexpr int64_t kCount = int64_t{16} << 20;  // 64 MiB each, beyond the caches
  const at::Tensor arenas = at::zeros({4, kCount}, at::kFloat);
  float* first = arenas.mutable_data_ptr<float>();
  const std::vector<training::DecaySegment> segments = {{.range = {.begin = 0, .end = kCount}}};
  const double seconds = BestSeconds([&] {
    training::SumOfSquares(first + kCount, kCount);
    training::AdamWStep({}, segments, /*step=*/1, /*learning_rate=*/0.1, /*gradient_scale=*/1.0,
                        first, first + kCount, first + 2 * kCount, first + 3 * kCount);
  });
  return 9.0 * static_cast<double>(kCount) * sizeof(float) / seconds;
}

template <typename Float>
double GemmFlops(int64_t size) {
  Buffer<Float> a, b, c;
  const Matrix<const Float> left(Filled(a, size * size), size, size);
  const Matrix<const Float> right(Filled(b, size * size), size, size);
  const Matrix<Float> result(c.Reserve(size * size), size, size);
  const double seconds = BestSeconds(
      [&] { kernels::Gemm(left, right.Transposed(), kernels::Output::kOverwrite, result); });
  return 2.0 * static_cast<double>(size * size * size) / seconds;
}

// By LibTorch on a GPU: enough of them that starting and waiting do not count.
double GemmFlopsOn(at::Device device, at::ScalarType type) {
  constexpr int64_t kSize = 8192;
  constexpr int kProducts = 8;
  const at::TensorOptions options = at::TensorOptions().dtype(type).device(device);
  const at::Tensor left = at::randn({kSize, kSize}, options),
                   right = at::randn({kSize, kSize}, options);
  at::Tensor result = at::empty_like(left);
  const double seconds = BestSeconds([&] {
    for (int i = 0; i < kProducts; ++i) at::mm_out(result, left, right);
    result.select(0, 0).select(0, 0).item<float>();  // waits
  });
  return kProducts * 2.0 * static_cast<double>(kSize * kSize * kSize) / seconds;
}

}  // namespace

Json ToJson(const DeviceSpeed& speed) {
  return {{"bf16_flops", speed.bf16.dense_flops},
          {"fp32_flops", speed.fp32.dense_flops},
          {"bf16_expert_flops", speed.bf16.expert_flops},
          {"fp32_expert_flops", speed.fp32.expert_flops},
          {"bf16_attention_flops", speed.bf16.attention_flops},
          {"fp32_attention_flops", speed.fp32.attention_flops},
          {"bf16_head_flops", speed.bf16.head_flops},
          {"fp32_head_flops", speed.fp32.head_flops},
          {"bf16_pass_ratio", speed.bf16.pass_ratio},
          {"fp32_pass_ratio", speed.fp32.pass_ratio},
          {"memory_bytes", speed.memory_bytes},
          {"process_bytes", speed.process_bytes},
          {"has_bf16", speed.has_bf16}};
}

DeviceSpeed MeasureSpeed(const Device& device) {
  DeviceSpeed speed;
  // A product loads libraries and starts threads; its buffers are given back.
  MeasurePeakFlops(model::ComputeType::kFp32, device);
  speed.process_bytes = ResidentBytes();
  speed.memory_bytes = UpdateBytes();
  speed.fp32 = MeasureRates<float>(speed.memory_bytes);
  speed.has_bf16 = !device.bf16_feature.empty();
  speed.bf16 = speed.has_bf16 ? MeasureRates<c10::BFloat16>(speed.memory_bytes) : speed.fp32;
  return speed;
}

double MeasurePeakFlops(model::ComputeType compute, const Device& device) {
  const at::ScalarType type = compute == model::ComputeType::kBf16 ? at::kBFloat16 : at::kFloat;
  if (device.gpu != nullptr) return GemmFlopsOn(device.kernels()->device(), type);
  constexpr int64_t kSize = 1024;
  return type == at::kBFloat16 ? GemmFlops<c10::BFloat16>(kSize) : GemmFlops<float>(kSize);
}

}  // namespace moe::rank
