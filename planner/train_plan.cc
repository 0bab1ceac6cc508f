#include "planner/train_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "planner/flops.h"
#include "worker/model/parameters.h"

namespace moe::planner {
namespace {

constexpr int64_t kFp32 = 4, kBf16 = 2;
// As worker/model/lm_head.h: logits exist chunk by chunk.
constexpr int64_t kLogitsChunkElements = int64_t{50} << 20;
// Bytes that one pass of the optimizer moves per parameter: reads p, g, m, v; writes all four.
constexpr double kOptimizerBytes = 8.0 * kFp32;

std::string Gigabytes(int64_t bytes) {
  return fmt::format("{:.2f} GB", static_cast<double>(bytes) / 1e9);
}

// The sizes that everything below is made of. T tokens of a micro-batch.
struct Shape {
  Shape(const TrainSetup& setup, int64_t element)
      : element(element),
        T(setup.micro_batch_samples * setup.sequence_length),
        d(setup.model.hidden_size),
        L(setup.model.num_layers),
        N(setup.model.moe.num_experts),
        k(setup.model.moe.top_k),
        qkv((setup.model.num_heads + 2 * setup.model.num_kv_heads) * setup.model.head_dim),
        out(setup.model.num_heads * setup.model.head_dim),
        heads(setup.model.num_heads),
        moe_layers(setup.model.num_moe_layers()),
        dense_width(setup.model.intermediate_size),
        expert_width(setup.model.moe.expert_width),
        shared_width(setup.model.moe.shared_width),
        is_mlp_gate(setup.model.moe.gate_network == "mlp"),
        has_noise(setup.model.moe.has_noise_weight()) {}

  int64_t element, T, d, L, N, k, qkv, out, heads;
  int64_t moe_layers, dense_width, expert_width, shared_width;
  bool is_mlp_gate, has_noise;
};

// LayerSaved of worker/model/decoder_layer.h, of all layers, per token.
int64_t SavedBytesPerToken(const Shape& s) {
  const int64_t attention = kFp32 * (2 * s.d + 2 + s.heads) + s.element * (s.qkv + s.out);
  const int64_t dense_ffn = s.element * 2 * s.dense_width;
  // Gate: logits, hidden, noise, sigma; indices and scores; dispatch in both directions; row scale.
  const int64_t gate_rows = 1 + (s.is_mlp_gate ? 1 : 0) + (s.has_noise ? 2 : 0);
  const int64_t gate = kFp32 * (gate_rows * s.N + 2 * s.k + 1) + (2 * 8 + s.element) * s.k;
  const int64_t moe_ffn = s.element * 2 * (s.k * s.expert_width + s.shared_width) + gate;
  return s.L * attention + s.moe_layers * moe_ffn + (s.L - s.moe_layers) * dense_ffn;
}

// LayerScratch and the model's own rooms, per token: two norms, x, dx; normed, dy, dattention,
// dqkv; then what the larger of the two kinds of layers needs.
int64_t ScratchBytesPerToken(const Shape& s) {
  const int64_t common =
      kFp32 * (4 * s.d + 2) + s.element * (2 * s.d + s.out + s.qkv) + kFp32 * s.N;
  const int64_t dense_ffn = s.element * 4 * (s.L > s.moe_layers ? s.dense_width : s.shared_width);
  if (s.moe_layers == 0) return common + dense_ffn;
  const int64_t rows = s.element * s.k * s.d + kFp32 * 2 * s.k;
  const int64_t experts = s.element * 4 * s.expert_width * s.k;
  return common + rows + experts + dense_ffn;
}

// The experts of a layer, ready for products, which may be widened to fp32.
int64_t PreparedBytes(const Shape& s) {
  return s.moe_layers > 0 && s.element < kFp32 ? kFp32 * s.N * 3 * s.expert_width * s.d : 0;
}

std::vector<MemoryPart> MemoryOf(const TrainSetup& setup, const Machine& machine,
                                 int64_t arena_numel) {
  const bool bf16 = setup.bf16 && machine.has_bf16;
  const Shape s(setup, bf16 ? kBf16 : kFp32);
  const int64_t owned = (arena_numel + setup.ranks - 1) / setup.ranks;
  std::vector<MemoryPart> parts = {
      {"parameters", arena_numel * (kFp32 + (bf16 ? kBf16 : 0))},
      {"gradients", arena_numel * kFp32},
      {"optimizer state", 2 * owned * kFp32},
      {"checkpoint staging", (setup.keeps_average ? 4 : 3) * owned * kFp32},
      {"activations", s.T * SavedBytesPerToken(s)},
      {"logits", s.element * std::min(s.T * setup.model.vocab_size, kLogitsChunkElements)},
      {"workspace", s.T * ScratchBytesPerToken(s) + PreparedBytes(s)},
  };
  if (setup.keeps_average) parts.push_back({"weight average", owned * kFp32});
  if (setup.ranks > 1) parts.push_back({"receive buffer", owned * kFp32});
  if (machine.process_bytes > 0) parts.push_back({"process", machine.process_bytes});
  return parts;
}

int64_t Sum(const std::vector<MemoryPart>& parts) {
  int64_t sum = 0;
  for (const MemoryPart& part : parts) sum += part.bytes;
  return sum;
}

// Bytes that passes over activations move, forward and backward, per token: what is saved is
// written once and read about twice, and norms, rotations and activations go over it again.
double ActivationTraffic(const Shape& s) {
  return 4.0 * static_cast<double>(SavedBytesPerToken(s) + s.moe_layers * s.element * s.k * s.d);
}

// What a rank computes in a step; and of it, in one pass over its last micro-batch.
struct ComputeSeconds {
  double step = 0, micro_batch = 0;
};

ComputeSeconds Compute(const TrainSetup& setup, const Machine& machine, int64_t arena_numel) {
  const bool bf16 = setup.bf16 && machine.has_bf16;
  const ComputeRates& rates = bf16 ? machine.bf16 : machine.fp32;
  const Shape s(setup, bf16 ? kBf16 : kFp32);
  const Flops flops = CountFlops(setup.model, setup.sequence_length);
  const double tokens = static_cast<double>(setup.global_batch_samples * setup.sequence_length) /
                        static_cast<double>(setup.ranks);
  const double compute = 3 * tokens *
                         (flops.dense / rates.dense_flops + flops.experts / rates.expert_flops +
                          flops.attention / rates.attention_flops + flops.head / rates.head_flops);
  const double owned = static_cast<double>(arena_numel) / static_cast<double>(setup.ranks);
  // Per micro-batch, weight gradients are added to; per step, the optimizer runs, the gradients are
  // measured and cleared, and bf16 copies are made.
  const double micro_batches =
      tokens / static_cast<double>(setup.micro_batch_samples * setup.sequence_length);
  const double pass_bytes = tokens * ActivationTraffic(s) +
                            micro_batches * 2.0 * kFp32 * static_cast<double>(arena_numel);
  const double update_bytes =
      owned * (kOptimizerBytes + kFp32) +
      static_cast<double>(arena_numel) * (kFp32 + (bf16 ? kFp32 + kBf16 : 0));
  const double passes = rates.pass_ratio * (compute + pass_bytes / machine.memory_bytes_per_s);
  return {.step = passes + update_bytes / machine.memory_bytes_per_s,
          .micro_batch = passes / micro_batches};
}

// Gradients go out during the backward pass of the last micro-batch, two thirds of it; parameters
// come in during the forward pass of the next step's first one (worker/training/state_exchange.h).
double ExposedSeconds(double link_seconds, double micro_batch_seconds, double overlap) {
  const double each_way = link_seconds / 2;
  const double forward = micro_batch_seconds / 3, backward = 2 * forward;
  return std::max(0.0, each_way - overlap * backward) + std::max(0.0, each_way - overlap * forward);
}

}  // namespace

TrainPlan PlanTraining(const TrainSetup& setup, const Machine& machine) {
  const model::ParameterLayout layout(setup.model);
  TrainPlan plan;
  plan.total_parameters = layout.total_parameters();
  plan.active_parameters = layout.active_parameters();
  plan.flops_per_token = CountFlops(setup.model, setup.sequence_length).PerTrainedToken();
  plan.memory = MemoryOf(setup, machine, layout.arena_numel());
  plan.memory_bytes = Sum(plan.memory);
  const auto fits = [&machine](int64_t bytes) {
    return machine.memory_bytes == 0 || bytes <= machine.memory_bytes;
  };
  plan.fits = fits(plan.memory_bytes);
  // Reduce-scatter of gradients and all-gather of parameters: 2 (R - 1) / R of the arena.
  plan.sent_bytes_per_step =
      2 * (setup.ranks - 1) * (layout.arena_numel() * kFp32 / std::max<int64_t>(1, setup.ranks));

  const int64_t share = setup.global_batch_samples / setup.ranks;
  for (int64_t samples = 1; samples <= share; ++samples) {
    if (share % samples != 0) continue;
    TrainSetup choice = setup;
    choice.micro_batch_samples = samples;
    const int64_t bytes = Sum(MemoryOf(choice, machine, layout.arena_numel()));
    plan.choices.push_back(
        {.micro_batch_samples = samples, .memory_bytes = bytes, .fits = fits(bytes)});
  }
  if (machine.is_measured) {
    const ComputeSeconds compute = Compute(setup, machine, layout.arena_numel());
    if (machine.link_bytes_per_s > 0) {
      plan.link_seconds = static_cast<double>(plan.sent_bytes_per_step) / machine.link_bytes_per_s;
    }
    plan.micro_batch_seconds = compute.micro_batch;
    plan.exposed_seconds = ExposedSeconds(plan.link_seconds, compute.micro_batch, machine.overlap);
    plan.step_seconds = compute.step + plan.exposed_seconds;
    plan.tokens_per_second =
        static_cast<double>(setup.global_batch_samples * setup.sequence_length) / plan.step_seconds;
    plan.duration_seconds = plan.step_seconds * static_cast<double>(setup.steps);
  }
  return plan;
}

std::string DescribeMisfit(const TrainPlan& plan, const TrainSetup& setup, const Machine& machine) {
  std::vector<MemoryPart> largest = plan.memory;
  std::stable_sort(largest.begin(), largest.end(),
                   [](const MemoryPart& a, const MemoryPart& b) { return a.bytes > b.bytes; });
  largest.resize(std::min<size_t>(largest.size(), 4));
  std::vector<std::string> parts;
  for (const MemoryPart& part : largest) {
    parts.push_back(fmt::format("{} {}", part.name, Gigabytes(part.bytes)));
  }
  std::string text =
      fmt::format("needs {} a rank ({}), a slot has {} ({}); ", Gigabytes(plan.memory_bytes),
                  fmt::join(parts, ", "), Gigabytes(machine.memory_bytes), machine.name);
  const auto choice =
      std::find_if(plan.choices.rbegin(), plan.choices.rend(), [&setup](const BatchChoice& c) {
        return c.fits && c.micro_batch_samples < setup.micro_batch_samples;
      });
  if (choice != plan.choices.rend()) {
    return text + fmt::format("use micro_batch_samples={} ({})", choice->micro_batch_samples,
                              Gigabytes(choice->memory_bytes));
  }
  // Only what ranks share gets smaller with more of them.
  TrainSetup wider = setup;
  wider.micro_batch_samples = 1;
  for (wider.ranks = 2 * setup.ranks; wider.ranks <= 1024; wider.ranks *= 2) {
    wider.global_batch_samples = std::max(setup.global_batch_samples, wider.ranks);
    const int64_t bytes =
        Sum(MemoryOf(wider, machine, model::ParameterLayout(setup.model).arena_numel()));
    if (bytes <= machine.memory_bytes) {
      return text + fmt::format("use slots={} and micro_batch_samples=1 ({})", wider.ranks,
                                Gigabytes(bytes));
    }
  }
  return text + "use a shorter sequence_length or slots with more memory";
}

}  // namespace moe::planner
