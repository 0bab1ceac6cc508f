#include "worker/model/hf_names.h"

#include <fmt/format.h>

#include <utility>

#include "common/check.h"

namespace moe::model {
namespace {

// Cuts parameters into the tensors that Hugging Face files have.
class Mapper {
 public:
  explicit Mapper(const ParameterLayout& layout) : layout_(layout) {}

  // The whole parameter is one tensor.
  void Whole(const std::string& parameter, std::string name) {
    const Parameter& p = layout_.Find(parameter);
    tensors_.push_back({std::move(name), p.shape, p.offset, p.numel});
  }

  // The parameter is these tensors, one after the other.
  void Parts(const std::string& parameter, const std::vector<HfTensor>& parts) {
    const Parameter& p = layout_.Find(parameter);
    int64_t used = 0;
    for (HfTensor tensor : parts) {
      tensor.numel = 1;
      for (const int64_t extent : tensor.shape) tensor.numel *= extent;
      tensor.offset = p.offset + used;
      used += tensor.numel;
      tensors_.push_back(std::move(tensor));
    }
    MOE_CHECK(used == p.numel);
  }

  std::vector<HfTensor> Take() { return std::move(tensors_); }

 private:
  const ParameterLayout& layout_;
  std::vector<HfTensor> tensors_;
};

// A plain FFN of width n.
void MapDense(const std::string& ours, const std::string& theirs, int64_t n, int64_t d,
              Mapper& mapper) {
  mapper.Parts(ours + "gate_up",
               {{theirs + "gate_proj.weight", {n, d}}, {theirs + "up_proj.weight", {n, d}}});
  mapper.Whole(ours + "down", theirs + "down_proj.weight");
}

void MapMixture(const artefacts::ModelConfig& config, const std::string& ours,
                const std::string& theirs, Mapper& mapper) {
  const int64_t d = config.hidden_size;
  const std::string gate = theirs + "mlp.gate.";
  if (config.moe.gate_network == "mlp") {
    mapper.Whole(ours + "router.0", gate + "gate_network.0.weight");
    mapper.Whole(ours + "router.2", gate + "gate_network.2.weight");
  } else {
    mapper.Whole(ours + "router.0", gate + "gate_network.weight");
  }
  if (config.moe.has_noise_weight()) mapper.Whole(ours + "noise", gate + "weight_noise.weight");

  const std::string experts = theirs + "mlp.calculator.experts.";
  const int64_t n = config.moe.expert_width;
  std::vector<HfTensor> gate_up, down;
  for (int64_t e = 0; e < config.moe.num_experts; ++e) {
    gate_up.push_back({fmt::format("{}weight_gate.{}", experts, e), {n, d}});
    gate_up.push_back({fmt::format("{}weight_up.{}", experts, e), {n, d}});
    down.push_back({fmt::format("{}weight_down.{}", experts, e), {d, n}});
  }
  mapper.Parts(ours + "experts.gate_up", gate_up);
  mapper.Parts(ours + "experts.down", down);
  if (config.moe.learn_scale) {
    mapper.Whole(ours + "scale", theirs + "mlp.calculator.mlp_norm.weight");
  }
  if (config.moe.shared_width > 0) {
    MapDense(ours + "shared.", theirs + "mlp.shared_expert.", config.moe.shared_width, d, mapper);
  }
  if (config.moe.output_bias) mapper.Whole(ours + "output_bias", theirs + "mlp.output_bias");
}

bool EndsWith(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

std::vector<HfTensor> HfTensors(const artefacts::ModelConfig& config,
                                const ParameterLayout& layout) {
  const int64_t d = config.hidden_size;
  const int64_t q_rows = config.num_heads * config.head_dim;
  const int64_t kv_rows = config.num_kv_heads * config.head_dim;

  Mapper mapper(layout);
  mapper.Whole("embed", "model.embed_tokens.weight");
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string ours = fmt::format("layers.{}.", i);
    const std::string theirs = fmt::format("model.layers.{}.", i);
    mapper.Whole(ours + "attn_norm", theirs + "input_layernorm.weight");
    mapper.Parts(ours + "qkv", {{theirs + "self_attn.q_proj.weight", {q_rows, d}},
                                {theirs + "self_attn.k_proj.weight", {kv_rows, d}},
                                {theirs + "self_attn.v_proj.weight", {kv_rows, d}}});
    mapper.Whole(ours + "attn_out", theirs + "self_attn.o_proj.weight");
    mapper.Whole(ours + "ffn_norm", theirs + "post_attention_layernorm.weight");
    if (config.is_moe_layer(i)) {
      MapMixture(config, ours, theirs, mapper);
    } else {
      MapDense(ours, theirs + "mlp.", config.intermediate_size, d, mapper);
    }
  }
  mapper.Whole("norm", "model.norm.weight");
  if (layout.Has("lm_head")) mapper.Whole("lm_head", "lm_head.weight");
  return mapper.Take();
}

bool IsRedundantHfTensor(const artefacts::ModelConfig& config, const std::string& name) {
  return EndsWith(name, ".self_attn.rotary_emb.inv_freq") ||
         (config.tie_word_embeddings && name == "lm_head.weight");
}

}  // namespace moe::model
