#include "planner/train_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "planner/expert_parallel.h"
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
        E(setup.expert_parallel),
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

  int64_t element, T, d, L, N, E, k, qkv, out, heads;
  int64_t moe_layers, dense_width, expert_width, shared_width;
  bool is_mlp_gate, has_noise;
};

// What a rank has of the parameters.
struct Arena {
  explicit Arena(const TrainSetup& setup) {
    const model::ParameterLayout layout(setup.model, {.index = 0, .count = setup.expert_parallel});
    for (const model::Region region : model::kRegions) {
      const auto [begin, end] = layout.RegionRange(region);
      const int64_t ranks =
          region == model::Region::kExperts ? setup.ranks / setup.expert_parallel : setup.ranks;
      const int64_t share = (end - begin + ranks - 1) / ranks;
      held += end - begin;
      owned += share;
      if (ranks > 1) received += share;
      // Reduce-scatter of gradients and all-gather of parameters: 2 (R - 1) / R of the region.
      sent_bytes += 2 * (ranks - 1) * ((end - begin) * kFp32 / ranks);
    }
  }

  int64_t held = 0, owned = 0;  // elements; of those owned the optimizer's state is kept
  int64_t received = 0;         // elements of the owned that other ranks have too
  int64_t sent_bytes = 0;       // in a step
};

// LayerSaved of worker/model/decoder_layer.h, of all layers, per token.
int64_t SavedBytesPerToken(const Shape& s) {
  const int64_t attention = kFp32 * (2 * s.d + 2 + s.heads) + s.element * (s.qkv + s.out);
  const int64_t dense_ffn = s.element * 2 * s.dense_width;
  // Gate: logits, hidden, noise, sigma; indices and scores; dispatch in both directions; row scale.
  const int64_t gate_rows = 1 + (s.is_mlp_gate ? 1 : 0) + (s.has_noise ? 2 : 0);
  const int64_t gate = kFp32 * (gate_rows * s.N + 2 * s.k + 1) + (2 * 8 + s.element) * s.k;
  // Rows that arrived, their scales, and their dispatch.
  const int64_t arrived = s.E > 1 ? s.k * (s.element * s.d + kFp32 + 3 * 4) : 0;
  const int64_t moe_ffn = s.element * 2 * (s.k * s.expert_width + s.shared_width) + gate + arrived;
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
  // Rows that arrived with their gradients, what was computed, and what is on its way.
  const int64_t exchanged = s.E > 1 ? s.k * (4 * s.element * s.d + 2 * kFp32) : 0;
  return common + rows + experts + exchanged + dense_ffn;
}

// The experts of a layer that a rank holds, ready for products, which may be widened to fp32.
int64_t PreparedBytes(const Shape& s) {
  return s.moe_layers > 0 && s.element < kFp32 ? kFp32 * s.N / s.E * 3 * s.expert_width * s.d : 0;
}

// Rows of tokens and of outputs in the forward, of gradients of both in the backward, with a number
// each for the scores, as far as their expert is on another rank.
int64_t AllToAllBytes(const Shape& s, int64_t tokens) {
  const int64_t rows = tokens * s.moe_layers * s.k;
  return rows * (s.E - 1) / s.E * (4 * s.element * s.d + 2 * kFp32);
}

int64_t TokensOfRank(const TrainSetup& setup) {
  return setup.global_batch_samples * setup.sequence_length / setup.ranks;
}

std::vector<MemoryPart> MemoryOf(const TrainSetup& setup, const Machine& machine) {
  const bool bf16 = setup.bf16 && machine.has_bf16;
  const Shape s(setup, bf16 ? kBf16 : kFp32);
  const Arena arena(setup);
  std::vector<MemoryPart> parts = {
      {"parameters", arena.held * (kFp32 + (bf16 ? kBf16 : 0))},
      {"gradients", arena.held * kFp32},
      {"optimizer state", 2 * arena.owned * kFp32},
      {"checkpoint staging", (setup.keeps_average ? 4 : 3) * arena.owned * kFp32},
      {"activations", s.T * SavedBytesPerToken(s)},
      {"logits", s.element * std::min(s.T * setup.model.vocab_size, kLogitsChunkElements)},
      {"workspace", s.T * ScratchBytesPerToken(s) + PreparedBytes(s)},
  };
  if (setup.keeps_average) parts.push_back({"weight average", arena.owned * kFp32});
  if (setup.ranks > 1) parts.push_back({"receive buffer", arena.received * kFp32});
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

ComputeSeconds Compute(const TrainSetup& setup, const Machine& machine) {
  const bool bf16 = setup.bf16 && machine.has_bf16;
  const ComputeRates& rates = bf16 ? machine.bf16 : machine.fp32;
  const Shape s(setup, bf16 ? kBf16 : kFp32);
  const Flops flops = CountFlops(setup.model, setup.sequence_length);
  const Arena arena(setup);
  const double tokens = static_cast<double>(TokensOfRank(setup));
  const double compute = 3 * tokens *
                         (flops.dense / rates.dense_flops + flops.experts / rates.expert_flops +
                          flops.attention / rates.attention_flops + flops.head / rates.head_flops);
  const double held = static_cast<double>(arena.held);
  // Per micro-batch, weight gradients are added to; per step, the optimizer runs, the gradients are
  // measured and cleared, and bf16 copies are made.
  const double micro_batches =
      tokens / static_cast<double>(setup.micro_batch_samples * setup.sequence_length);
  const double pass_bytes = tokens * ActivationTraffic(s) + micro_batches * 2.0 * kFp32 * held;
  const double update_bytes = static_cast<double>(arena.owned) * (kOptimizerBytes + kFp32) +
                              held * (kFp32 + (bf16 ? kFp32 + kBf16 : 0));
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
  plan.memory = MemoryOf(setup, machine);
  plan.memory_bytes = Sum(plan.memory);
  const auto fits = [&machine](int64_t bytes) {
    return machine.memory_bytes == 0 || bytes <= machine.memory_bytes;
  };
  plan.fits = fits(plan.memory_bytes);
  const int64_t element = setup.bf16 && machine.has_bf16 ? kBf16 : kFp32;
  const int64_t state_bytes = Arena(setup).sent_bytes;
  plan.all_to_all_bytes_per_step = AllToAllBytes(Shape(setup, element), TokensOfRank(setup));
  plan.sent_bytes_per_step = state_bytes + plan.all_to_all_bytes_per_step;

  const int64_t share = setup.global_batch_samples / setup.ranks;
  for (int64_t samples = 1; samples <= share; ++samples) {
    if (share % samples != 0) continue;
    TrainSetup choice = setup;
    choice.micro_batch_samples = samples;
    const int64_t bytes = Sum(MemoryOf(choice, machine));
    plan.choices.push_back(
        {.micro_batch_samples = samples, .memory_bytes = bytes, .fits = fits(bytes)});
  }
  if (machine.is_measured) {
    const ComputeSeconds compute = Compute(setup, machine);
    double state_seconds = 0, all_to_all_seconds = 0;
    if (machine.link_bytes_per_s > 0) {
      state_seconds = static_cast<double>(state_bytes) / machine.link_bytes_per_s;
      all_to_all_seconds =
          static_cast<double>(plan.all_to_all_bytes_per_step) / machine.link_bytes_per_s;
    }
    plan.micro_batch_seconds = compute.micro_batch;
    plan.link_seconds = state_seconds + all_to_all_seconds;
    // Experts wait for their rows.
    plan.exposed_seconds =
        ExposedSeconds(state_seconds, compute.micro_batch, machine.overlap) + all_to_all_seconds;
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
  // Only what ranks share gets smaller with more of them: optimizer state, and experts where they
  // are shared out.
  TrainSetup wider = setup;
  wider.micro_batch_samples = 1;
  for (wider.ranks = setup.ranks; wider.ranks <= 1024; wider.ranks *= 2) {
    wider.global_batch_samples = std::max(setup.global_batch_samples, wider.ranks);
    for (const int64_t expert_parallel :
         {setup.expert_parallel, LargestExpertParallel(setup.model, wider.ranks)}) {
      wider.expert_parallel = expert_parallel;
      const int64_t bytes = Sum(MemoryOf(wider, machine));
      if (bytes > machine.memory_bytes) continue;
      return text + fmt::format("use slots={}{} and micro_batch_samples=1 ({})", wider.ranks,
                                expert_parallel == setup.expert_parallel
                                    ? ""
                                    : fmt::format(", parallel.expert={}", expert_parallel),
                                Gigabytes(bytes));
    }
  }
  return text + "use a shorter sequence_length or slots with more memory";
}

}  // namespace moe::planner
