#include "worker/model/parameters.h"

#include <iterator>
#include <utility>

#include "common/check.h"

namespace moe::model {
namespace {

constexpr int64_t kAlignmentElements = 64;

int64_t AlignUp(int64_t n) {
  return (n + kAlignmentElements - 1) / kAlignmentElements * kAlignmentElements;
}

}  // namespace

ParameterLayout::ParameterLayout(const artefacts::ModelConfig& config) {
  const int64_t d = config.hidden_size, hd = config.head_dim;
  const int64_t qkv_rows = (config.num_heads + 2 * config.num_kv_heads) * hd;

  // `idle` is how many of the elements a token does not meet.
  auto add = [&](std::string name, std::vector<int64_t> shape, bool decay = true,
                 int64_t idle = 0) {
    int64_t numel = 1;
    for (int64_t extent : shape) numel *= extent;
    parameters_.push_back({.name = std::move(name),
                           .shape = std::move(shape),
                           .offset = arena_numel_,
                           .numel = numel,
                           .decay = decay});
    arena_numel_ += AlignUp(numel);
    total_parameters_ += numel;
    active_parameters_ += numel - idle;
  };

  add("embed", {config.vocab_size, d});
  for (int64_t i = 0; i < config.num_layers; ++i) {
    layer_begins_.push_back(arena_numel_);
    const std::string layer = "layers." + std::to_string(i) + ".";
    add(layer + "attn_norm", {d}, /*decay=*/false);
    add(layer + "qkv", {qkv_rows, d});
    add(layer + "attn_out", {d, config.num_heads * hd});
    add(layer + "ffn_norm", {d}, /*decay=*/false);
    if (!config.is_moe_layer(i)) {
      add(layer + "gate_up", {2 * config.intermediate_size, d});
      add(layer + "down", {d, config.intermediate_size});
      continue;
    }
    const artefacts::MoeConfig& moe = config.moe;
    const int64_t N = moe.num_experts, n = moe.expert_width;
    add(layer + "router.0", {N, d});
    if (moe.gate_network == "mlp") add(layer + "router.2", {N, N});
    if (moe.has_noise_weight()) add(layer + "noise", {N, d});
    const int64_t idle_experts = N - moe.top_k;
    add(layer + "experts.gate_up", {N, 2 * n, d}, /*decay=*/true, idle_experts * 2 * n * d);
    add(layer + "experts.down", {N, d, n}, /*decay=*/true, idle_experts * d * n);
    if (moe.learn_scale) add(layer + "scale", {1}, /*decay=*/false);
    if (moe.shared_width > 0) {
      add(layer + "shared.gate_up", {2 * moe.shared_width, d});
      add(layer + "shared.down", {d, moe.shared_width});
    }
    if (moe.output_bias) add(layer + "output_bias", {d}, /*decay=*/false);
  }
  layer_begins_.push_back(arena_numel_);
  add("norm", {d}, /*decay=*/false);
  if (!config.tie_word_embeddings) add("lm_head", {config.vocab_size, d});
}

ParameterLayout::Range ParameterLayout::LayerRange(int64_t layer) const {
  const int64_t last = std::ssize(layer_begins_) - 1;
  MOE_CHECK(layer >= -1 && layer <= last);
  return {layer < 0 ? 0 : layer_begins_[static_cast<size_t>(layer)],
          layer == last ? arena_numel_ : layer_begins_[static_cast<size_t>(layer + 1)]};
}

const Parameter& ParameterLayout::Find(const std::string& name) const {
  for (const Parameter& parameter : parameters_) {
    if (parameter.name == name) return parameter;
  }
  MOE_CHECK(!"no parameter of this name");
  __builtin_unreachable();
}

bool ParameterLayout::Has(const std::string& name) const {
  for (const Parameter& parameter : parameters_) {
    if (parameter.name == name) return true;
  }
  return false;
}

}  // namespace moe::model
