#include "worker/model/parameters.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/check.h"

namespace moe::model {

ParameterLayout::ParameterLayout(const artefacts::ModelConfig& config, const ExpertShare& share)
    : share_(share) {
  const int64_t d = config.hidden_size, hd = config.head_dim;
  const int64_t qkv_rows = (config.num_heads + 2 * config.num_kv_heads) * hd;
  std::array<int64_t, kRegions.size()> ends = {};  // of the regions so far, each from 0

  auto add_to = [&](Region region, std::string name, std::vector<int64_t> shape, bool decay) {
    int64_t numel = 1;
    for (int64_t extent : shape) numel *= extent;
    int64_t& end = ends[static_cast<size_t>(region)];
    parameters_.push_back({.name = std::move(name),
                           .shape = std::move(shape),
                           .offset = end,
                           .numel = numel,
                           .decay = decay,
                           .region = region,
                           .whole_offset = whole_numel_});
    end += Padded(numel);
    return numel;
  };
  auto add = [&](std::string name, std::vector<int64_t> shape, bool decay = true) {
    const int64_t numel = add_to(Region::kReplicated, std::move(name), std::move(shape), decay);
    whole_numel_ += Padded(numel);
    total_parameters_ += numel;
    active_parameters_ += numel;
  };
  // A matrix of each expert.
  auto add_experts = [&](std::string name, int64_t rows, int64_t columns) {
    const int64_t N = config.moe.num_experts, held = N / share.count;
    const Region region = share.count == 1 ? Region::kReplicated : Region::kExperts;
    const int64_t numel = add_to(region, std::move(name), {held, rows, columns}, /*decay=*/true);
    MOE_CHECK(share.count == 1 || (held * share.count == N && numel % kParameterAlignment == 0));
    parameters_.back().whole_offset += share.index * numel;
    whole_numel_ += Padded(N * rows * columns);
    total_parameters_ += N * rows * columns;
    active_parameters_ += config.moe.top_k * rows * columns;
  };
  auto begin_layer = [&] {
    for (size_t region = 0; region < kRegions.size(); ++region) {
      begins_[region].push_back(ends[region]);
    }
  };

  begin_layer();
  add("embed", {config.vocab_size, d});
  for (int64_t i = 0; i < config.num_layers; ++i) {
    begin_layer();
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
    add_experts(layer + "experts.gate_up", 2 * n, d);
    add_experts(layer + "experts.down", d, n);
    if (moe.learn_scale) add(layer + "scale", {1}, /*decay=*/false);
    if (moe.shared_width > 0) {
      add(layer + "shared.gate_up", {2 * moe.shared_width, d});
      add(layer + "shared.down", {d, moe.shared_width});
    }
    if (moe.output_bias) add(layer + "output_bias", {d}, /*decay=*/false);
  }
  begin_layer();
  add("norm", {d}, /*decay=*/false);
  if (!config.tie_word_embeddings) add("lm_head", {config.vocab_size, d});
  begin_layer();

  // The experts' region begins where the other one ends.
  arena_numel_ = ends[0] + ends[1];
  for (int64_t& begin : begins_[1]) begin += ends[0];
  for (Parameter& parameter : parameters_) {
    if (parameter.region == Region::kExperts) parameter.offset += ends[0];
  }
}

ParameterLayout::Range ParameterLayout::LayerRange(int64_t layer, Region region) const {
  MOE_CHECK(layer >= -1 && layer <= num_layers());
  const std::vector<int64_t>& begins = begins_[static_cast<size_t>(region)];
  return {begins[static_cast<size_t>(layer + 1)], begins[static_cast<size_t>(layer + 2)]};
}

ParameterLayout::Range ParameterLayout::RegionRange(Region region) const {
  const std::vector<int64_t>& begins = begins_[static_cast<size_t>(region)];
  return {begins.front(), begins.back()};
}

std::vector<ParameterLayout::Range> ParameterLayout::WholeRanges(Range range) const {
  std::vector<Range> whole;
  for (const Parameter& parameter : parameters_) {
    const int64_t begin = std::max(range.begin, parameter.offset);
    const int64_t end = std::min(range.end, parameter.offset + Padded(parameter.numel));
    if (begin >= end) continue;
    const int64_t shift = parameter.whole_offset - parameter.offset;
    if (!whole.empty() && whole.back().end == begin + shift) {
      whole.back().end = end + shift;
    } else {
      whole.push_back({begin + shift, end + shift});
    }
  }
  return whole;
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
