#include "worker/model/native_export.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "worker/model/arena.h"
#include "worker/model/parameters.h"

namespace moe::model {
namespace {

using artefacts::ModelConfig;

absl::Status CheckFits(NativeArchitecture architecture, const ModelConfig& config) {
  const bool qwen = architecture == NativeArchitecture::kQwen2Moe;
  const char* name = qwen ? "qwen2-moe" : "mixtral";
  const artefacts::MoeConfig& moe = config.moe;
  if (!config.is_moe()) {
    return InvalidArgument("format {} holds mixtures and the model is dense; use llama", name);
  }
  if (moe.is_switch()) {
    return InvalidArgument(
        "format {} weighs experts by softmax and the model has a switch gate, which does not; use "
        "format llama-moe",
        name);
  }
  if (moe.gate_network != "linear") {
    return InvalidArgument(
        "format {} has a linear gate and the model's is gate_network={}, whose tanh would be lost; "
        "construct with gate_network linear, or use format llama-moe",
        name, moe.gate_network);
  }
  if (moe.output_bias) {
    return InvalidArgument(
        "format {} cannot hold the constant vector that each of the {} mixtures adds; construct "
        "with mean_vector false, or use format llama-moe",
        name, config.num_moe_layers());
  }
  if (!qwen && (moe.shared_width > 0 || !moe.dense_layers.empty())) {
    return InvalidArgument(
        "format mixtral has experts in every layer and none shared; the model has a shared expert "
        "of width {} and {} dense layers: use qwen2-moe",
        moe.shared_width, moe.dense_layers.size());
  }
  if (qwen && moe.shared_width == 0) {
    return InvalidArgument(
        "format qwen2-moe needs a shared expert and the model has none; {}",
        moe.dense_layers.empty() ? "use mixtral" : "calibrate with shared_experts of 1 or more");
  }
  return absl::OkStatus();
}

Json CommonConfig(const ModelConfig& config) {
  const auto token_id = [](int64_t id) { return id < 0 ? Json(nullptr) : Json(id); };
  return {{"vocab_size", config.vocab_size},
          {"hidden_size", config.hidden_size},
          {"num_hidden_layers", config.num_layers},
          {"num_attention_heads", config.num_heads},
          {"num_key_value_heads", config.num_kv_heads},
          {"head_dim", config.head_dim},
          {"hidden_act", "silu"},
          {"max_position_embeddings", artefacts::MaxPositionEmbeddings(config)},
          {"rms_norm_eps", config.rms_norm_eps},
          {"rope_theta", config.rope_theta},
          {"rope_scaling", artefacts::RopeScalingToHf(config)},
          {"attention_dropout", 0.0},
          {"sliding_window", nullptr},
          {"tie_word_embeddings", config.tie_word_embeddings},
          {"num_experts_per_tok", config.moe.top_k},
          {"router_aux_loss_coef", config.moe.balance_loss_weight},
          {"output_router_logits", false},
          {"bos_token_id", token_id(config.bos_token_id)},
          {"eos_token_id", token_id(config.eos_token_id)},
          {"pad_token_id", nullptr}};
}

Json MixtralConfig(const ModelConfig& config) {
  Json json = CommonConfig(config);
  json.update({{"architectures", {"MixtralForCausalLM"}},
               {"model_type", "mixtral"},
               {"intermediate_size", config.moe.expert_width},
               {"num_local_experts", config.moe.num_experts},
               {"router_jitter_noise", 0.0}});
  return json;
}

Json Qwen2MoeConfig(const ModelConfig& config) {
  Json json = CommonConfig(config);
  json.update({{"architectures", {"Qwen2MoeForCausalLM"}},
               {"model_type", "qwen2_moe"},
               {"intermediate_size", config.intermediate_size},
               {"moe_intermediate_size", config.moe.expert_width},
               {"shared_expert_intermediate_size", config.moe.shared_width},
               {"num_experts", config.moe.num_experts},
               {"norm_topk_prob", true},
               {"decoder_sparse_step", 1},
               {"mlp_only_layers", config.moe.dense_layers},
               {"use_sliding_window", false},
               // Biases of zero rather than none: not every program knows this field.
               {"qkv_bias", true}});
  return json;
}

// Starts from the published layout's tensors, renames them and leaves out what has no name.
class Renamer {
 public:
  explicit Renamer(NativeArchitecture architecture) {
    if (architecture == NativeArchitecture::kMixtral) {
      moe_ = "block_sparse_moe.", gate_ = "w1", up_ = "w3", down_ = "w2";
    }
  }

  // The name of a tensor of the published layout; empty where it is left out.
  std::string operator()(const std::string& name) const {
    const size_t mlp = name.find(".mlp.");
    if (mlp == std::string::npos) return name;
    const std::string layer = name.substr(0, mlp + 1), part = name.substr(mlp + 5);
    if (part == "gate.gate_network.weight") return layer + moe_ + "gate.weight";
    if (part.starts_with("gate.") || part == "calculator.mlp_norm.weight") return "";
    for (const auto& [theirs, ours] : {std::pair<const char*, std::string>("weight_gate.", gate_),
                                       {"weight_up.", up_},
                                       {"weight_down.", down_}}) {
      const std::string prefix = std::string("calculator.experts.") + theirs;
      if (part.starts_with(prefix)) {
        return fmt::format("{}{}experts.{}.{}.weight", layer, moe_, part.substr(prefix.size()),
                           ours);
      }
    }
    return name;  // dense layers and the shared expert
  }

 private:
  std::string moe_ = "mlp.", gate_ = "gate_proj", up_ = "up_proj", down_ = "down_proj";
};

// The tensors of zeros that qwen2_moe has besides: the shared experts' gates and the biases.
std::vector<HfTensor> Qwen2MoeZeros(const ModelConfig& config, int64_t offset) {
  std::vector<HfTensor> zeros;
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    const auto add = [&](const std::string& name, std::vector<int64_t> shape, int64_t numel) {
      zeros.push_back({layer + name, std::move(shape), offset, numel});
    };
    const int64_t q = config.num_heads * config.head_dim,
                  kv = config.num_kv_heads * config.head_dim;
    add("self_attn.q_proj.bias", {q}, q);
    add("self_attn.k_proj.bias", {kv}, kv);
    add("self_attn.v_proj.bias", {kv}, kv);
    if (config.is_moe_layer(i)) {
      add("mlp.shared_expert_gate.weight", {1, config.hidden_size}, config.hidden_size);
    }
  }
  return zeros;
}

}  // namespace

absl::StatusOr<NativeModel> ToNative(NativeArchitecture architecture, const ModelConfig& config,
                                     const at::Tensor& parameters) {
  MOE_RETURN_IF_ERROR(CheckFits(architecture, config));
  const bool qwen = architecture == NativeArchitecture::kQwen2Moe;
  const ParameterLayout layout(config);
  // One range of zeros serves all tensors of zeros.
  const int64_t zeros = std::max(config.hidden_size, config.num_heads * config.head_dim);
  NativeModel model{.config = qwen ? Qwen2MoeConfig(config) : MixtralConfig(config),
                    .values = at::cat({parameters, at::zeros({zeros}, at::kFloat)}),
                    .tensors = {}};
  for (int64_t i = 0; i < config.num_layers; ++i) {
    if (!config.is_moe_layer(i)) continue;
    const auto view = [&](const char* name) {
      return View(model.values, layout.Find(fmt::format("layers.{}.{}", i, name)));
    };
    const float scale = config.moe.learn_scale ? view("scale").item<float>()
                                               : static_cast<float>(config.moe.ScaleFactor(i));
    view("experts.down").mul_(scale);
    if (qwen) view("shared.down").mul_(2);
  }
  const Renamer rename(architecture);
  for (HfTensor tensor : HfTensors(config, layout)) {
    tensor.name = rename(tensor.name);
    if (!tensor.name.empty()) model.tensors.push_back(std::move(tensor));
  }
  if (qwen) {
    for (HfTensor& tensor : Qwen2MoeZeros(config, parameters.numel())) {
      model.tensors.push_back(std::move(tensor));
    }
  }
  return model;
}

absl::StatusOr<DenseModel> ToDense(const ModelConfig& config, const at::Tensor& parameters) {
  if (!config.is_moe()) return DenseModel{.config = config, .parameters = parameters};
  const artefacts::MoeConfig& moe = config.moe;
  const int64_t N = moe.num_experts, n = moe.expert_width, m = moe.shared_width;
  const int64_t I = config.intermediate_size;
  if (N * n + m != I) {
    return InvalidArgument(
        "{} experts of width {} and a shared one of width {} have {} neurons, the dense FFN has "
        "{}: "
        "format llama is for experts that hold every neuron once",
        N, n, m, N * n + m, I);
  }
  if (moe.output_bias) {
    return InvalidArgument(
        "format llama cannot hold the constant vector that each of the {} mixtures adds; use "
        "format llama-moe",
        config.num_moe_layers());
  }
  DenseModel dense{.config = config, .parameters = {}};
  dense.config.moe = {};
  const ParameterLayout from(config), to(dense.config);
  dense.parameters = at::zeros({to.arena_numel()}, at::kFloat);
  CopyShared(from, parameters, to, dense.parameters);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    if (!config.is_moe_layer(i)) continue;
    const std::string layer = fmt::format("layers.{}.", i);
    const auto source = [&](const char* name) { return View(parameters, from.Find(layer + name)); };
    const at::Tensor gate_up_2I_d = View(dense.parameters, to.Find(layer + "gate_up"));
    const at::Tensor down_dI = View(dense.parameters, to.Find(layer + "down"));
    // Neurons [first, first + width) of the dense FFN.
    const auto put = [&](const at::Tensor& gate_up, const at::Tensor& down, int64_t first) {
      const int64_t width = down.size(1);
      gate_up_2I_d.narrow(0, first, width).copy_(gate_up.narrow(0, 0, width));
      gate_up_2I_d.narrow(0, I + first, width).copy_(gate_up.narrow(0, width, width));
      down_dI.narrow(1, first, width).copy_(down);
    };
    if (m > 0) put(source("shared.gate_up"), source("shared.down"), 0);
    for (int64_t e = 0; e < N; ++e) {
      put(source("experts.gate_up").select(0, e), source("experts.down").select(0, e), m + e * n);
    }
  }
  return dense;
}

}  // namespace moe::model
