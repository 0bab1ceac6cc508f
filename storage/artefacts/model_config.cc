#include "storage/artefacts/model_config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <utility>

#include "common/file.h"
#include "common/status.h"
#include "storage/artefacts/gguf.h"

namespace moe::artefacts {
namespace {

// Beyond any model that exists; keeps products of two sizes within int64.
constexpr int64_t kMaxSize = int64_t{1} << 30;

constexpr char kTopKGate[] = "TopKBalancedNoisyGate", kTopKCalculator[] = "UniversalCalculator";
constexpr char kSwitchGate[] = "SwitchBalancedGate",
               kSwitchCalculator[] = "SwitchDropTokenCalculator";
constexpr double kPublishedCapacity = 1.25;

absl::Status CheckRange(const std::string& path, const char* field, int64_t value, int64_t max) {
  if (value >= 1 && value <= max) return absl::OkStatus();
  return InvalidArgument("{}: {}={} is out of range; use 1 to {}", path, field, value, max);
}

absl::Status CheckPositive(const std::string& path, const char* field, double value) {
  if (std::isfinite(value) && value > 0) return absl::OkStatus();
  return InvalidArgument("{}: {}={} is out of range; use a number above 0", path, field, value);
}

absl::Status CheckMoe(const MoeConfig& moe, const std::string& path) {
  MOE_RETURN_IF_ERROR(CheckRange(path, "num_experts", moe.num_experts, 1 << 16));
  MOE_RETURN_IF_ERROR(CheckRange(path, "num_selects", moe.top_k, moe.num_experts));
  MOE_RETURN_IF_ERROR(CheckRange(path, "size_experts", moe.expert_width, kMaxSize));
  if (moe.gate_network != "mlp" && moe.gate_network != "linear") {
    return InvalidArgument("{}: gate_network '{}' is not supported; use mlp or linear", path,
                           moe.gate_network);
  }
  if (moe.is_switch() && moe.top_k != 1) {
    return InvalidArgument("{}: num_selects={} with the switch gate, which selects 1", path,
                           moe.top_k);
  }
  MOE_RETURN_IF_ERROR(CheckPositive(path, "score_scale_factor", moe.score_scale_factor));
  for (const double factor : moe.layer_scale_factors) {
    MOE_RETURN_IF_ERROR(CheckPositive(path, "score_scale_factor", factor));
  }
  if (moe.add_noise) {
    MOE_RETURN_IF_ERROR(CheckPositive(path, "gate_noise_epsilon", moe.noise_epsilon));
  }
  if (!std::isfinite(moe.balance_loss_weight) || moe.balance_loss_weight < 0) {
    return InvalidArgument("{}: gate_balance_loss_weight={} is out of range; use 0 or more", path,
                           moe.balance_loss_weight);
  }
  return absl::OkStatus();
}

// What a mixture has beyond the published ones.
absl::Status CheckExtensions(const ModelConfig& config, const std::string& path) {
  const MoeConfig& moe = config.moe;
  if (moe.shared_width < 0 || moe.shared_width > kMaxSize) {
    return InvalidArgument("{}: shared_expert_width={} is out of range; use 0 (none) to {}", path,
                           moe.shared_width, kMaxSize);
  }
  int64_t previous = -1;
  for (const int64_t layer : moe.dense_layers) {
    if (layer <= previous || layer >= config.num_layers) {
      return InvalidArgument("{}: dense_layers=[{}] must ascend from 0 to num_hidden_layers - 1={}",
                             path, fmt::join(moe.dense_layers, ", "), config.num_layers - 1);
    }
    previous = layer;
  }
  if (config.num_moe_layers() == 0) {
    return InvalidArgument("{}: dense_layers names all {} layers; leave one for the experts", path,
                           config.num_layers);
  }
  return absl::OkStatus();
}

// What holds for every config, wherever it is from.
absl::Status Check(const ModelConfig& config, const std::string& path) {
  MOE_RETURN_IF_ERROR(CheckRange(path, "vocab_size", config.vocab_size, kMaxSize));
  MOE_RETURN_IF_ERROR(CheckRange(path, "hidden_size", config.hidden_size, kMaxSize));
  MOE_RETURN_IF_ERROR(CheckRange(path, "intermediate_size", config.intermediate_size, kMaxSize));
  MOE_RETURN_IF_ERROR(CheckRange(path, "num_hidden_layers", config.num_layers, 1 << 16));
  MOE_RETURN_IF_ERROR(CheckRange(path, "num_attention_heads", config.num_heads, 1 << 16));
  MOE_RETURN_IF_ERROR(
      CheckRange(path, "num_key_value_heads", config.num_kv_heads, config.num_heads));
  if (config.num_heads % config.num_kv_heads != 0) {
    return InvalidArgument("{}: num_key_value_heads={} does not divide num_attention_heads={}",
                           path, config.num_kv_heads, config.num_heads);
  }
  MOE_RETURN_IF_ERROR(CheckRange(path, "head_dim", config.head_dim, 1 << 13));
  if (config.head_dim % 2 != 0) {
    return InvalidArgument("{}: head_dim={} is odd; rotary embeddings rotate pairs", path,
                           config.head_dim);
  }
  MOE_RETURN_IF_ERROR(CheckRange(path, "max_position_embeddings", config.context_length, kMaxSize));
  MOE_RETURN_IF_ERROR(CheckPositive(path, "rms_norm_eps", config.rms_norm_eps));
  MOE_RETURN_IF_ERROR(CheckPositive(path, "rope_theta", config.rope_theta));
  const std::pair<const char*, int64_t> special_tokens[] = {{"bos_token_id", config.bos_token_id},
                                                            {"eos_token_id", config.eos_token_id}};
  for (const auto& [field, id] : special_tokens) {
    if (id < -1 || id >= config.vocab_size) {
      return InvalidArgument("{}: {}={} is not below vocab_size={}", path, field, id,
                             config.vocab_size);
    }
  }
  if (!config.is_moe()) return absl::OkStatus();
  MOE_RETURN_IF_ERROR(CheckMoe(config.moe, path));
  return CheckExtensions(config, path);
}

// The width of one attention head where the config does not say it.
absl::StatusOr<int64_t> DefaultHeadDim(const ModelConfig& config, const std::string& path) {
  if (config.num_heads < 1 || config.hidden_size % config.num_heads != 0) {
    return InvalidArgument("{}: num_attention_heads={} does not divide hidden_size={}", path,
                           config.num_heads, config.hidden_size);
  }
  return config.hidden_size / config.num_heads;
}

// ---- Hugging Face -------------------------------------------------------------------------------

absl::Status Unsupported(const std::string& path, const std::string& field, const Json& value,
                         const std::string& supported) {
  return InvalidArgument("{}: {}={} is not supported; only {} is", path, field, value.dump(),
                         supported);
}

// Settings that this project knows one value of. Absent or null means that value.
absl::Status CheckFixedSettings(const Json& config, const std::string& path) {
  const std::pair<const char*, Json> kFixed[] = {
      {"hidden_act", "silu"},
      {"attention_bias", false},
      {"mlp_bias", false},
      // Of LlamaMoEConfig.
      {"gate_use_softmax", true},
      {"multiply_gate_scores", true},
  };
  for (const auto& [field, supported] : kFixed) {
    const auto it = config.find(field);
    if (it != config.end() && !it->is_null() && *it != supported) {
      return Unsupported(path, field, *it, supported.dump());
    }
  }
  return absl::OkStatus();
}

absl::Status ReadRopeScaling(const Json& rope, const std::string& type, const std::string& path,
                             ModelConfig& result) {
  JsonReader reader(rope, path);
  RopeScaling& scaling = result.rope_scaling;
  scaling.type = type;
  scaling.factor = reader.Double("factor");
  scaling.original_context = result.context_length;
  if (type == "llama3") {
    scaling.low_freq_factor = reader.Double("low_freq_factor");
    scaling.high_freq_factor = reader.Double("high_freq_factor");
    scaling.original_context = reader.Int("original_max_position_embeddings");
  }
  MOE_RETURN_IF_ERROR(reader.status());
  if (!(scaling.factor >= 1.0) || scaling.original_context < 1 ||
      !(scaling.high_freq_factor > scaling.low_freq_factor)) {
    return InvalidArgument(
        "{}: factor={} must be at least 1, original_max_position_embeddings={} at least 1, "
        "high_freq_factor={} above low_freq_factor={}",
        path, scaling.factor, scaling.original_context, scaling.high_freq_factor,
        scaling.low_freq_factor);
  }
  // transformers keeps the context that is scaled in the configs of one kind, and the context that
  // comes of it in the others.
  const double context = static_cast<double>(result.context_length);
  if (type == "dynamic") {
    result.context_length = static_cast<int64_t>(context * scaling.factor);
  } else if (type == "linear") {
    scaling.original_context = std::max<int64_t>(1, static_cast<int64_t>(context / scaling.factor));
  }
  return absl::OkStatus();
}

// Rotary settings are flat up to transformers 4 and an object, `rope_parameters`, from 5 on.
absl::Status ReadRope(const Json& config, const std::string& path, ModelConfig& result) {
  JsonReader reader(config, path);
  result.rope_theta = reader.Double("rope_theta", 10000.0);
  for (const char* field : {"rope_scaling", "rope_parameters"}) {
    if (!reader.Has(field)) continue;
    const Json& rope = reader.Object(field);
    JsonReader rope_reader(rope, path + ": " + field);
    const std::string type = rope_reader.String("rope_type", rope_reader.String("type", "default"));
    result.rope_theta = rope_reader.Double("rope_theta", result.rope_theta);
    MOE_RETURN_IF_ERROR(rope_reader.status());
    if (type == "default" || !result.rope_scaling.type.empty()) continue;
    if (type != "linear" && type != "dynamic" && type != "llama3") {
      return Unsupported(path, field, rope, "null, linear, dynamic or llama3");
    }
    MOE_RETURN_IF_ERROR(ReadRopeScaling(rope, type, path + ": " + field, result));
  }
  return reader.status();
}

// A token id, null, or a list of which the first counts. Absent: what LlamaConfig takes then.
absl::StatusOr<int64_t> ReadTokenId(const Json& config, const std::string& path, const char* field,
                                    int64_t fallback) {
  const auto it = config.find(field);
  if (it == config.end()) return fallback;
  if (it->is_null()) return -1;
  const Json& value = it->is_array() && !it->empty() ? it->front() : *it;
  if (!value.is_number_integer()) {
    return InvalidArgument("{}: {}={} is not a token id", path, field, it->dump());
  }
  return value.get<int64_t>();
}

// "size_experts": null, or a list of the experts' widths for each layer.
absl::Status ReadExpertWidth(const Json& config, const std::string& path, ModelConfig& result) {
  constexpr char kField[] = "size_experts";
  MoeConfig& moe = result.moe;
  const auto it = config.find(kField);
  if (it == config.end() || it->is_null()) {
    if (moe.num_experts < 1 || result.intermediate_size % moe.num_experts != 0) {
      return InvalidArgument("{}: num_experts={} does not divide intermediate_size={}", path,
                             moe.num_experts, result.intermediate_size);
    }
    moe.expert_width = result.intermediate_size / moe.num_experts;
    return absl::OkStatus();
  }
  if (!it->is_array() || static_cast<int64_t>(it->size()) != result.num_layers) {
    return InvalidArgument("{}: {} is not a list of num_hidden_layers={} lists", path, kField,
                           result.num_layers);
  }
  std::optional<int64_t> width;
  for (const Json& layer : *it) {
    if (!layer.is_array() || static_cast<int64_t>(layer.size()) != moe.num_experts) {
      return InvalidArgument("{}: {}: {} is not a list of num_experts={} widths", path, kField,
                             layer.dump(), moe.num_experts);
    }
    for (const Json& item : layer) {
      if (!item.is_number_integer()) {
        return InvalidArgument("{}: {}: {} is not a width", path, kField, item.dump());
      }
      if (!width) width = item.get<int64_t>();
      if (item.get<int64_t>() != *width) {
        return InvalidArgument(
            "{}: {}: experts of the widths {} and {}; only experts of equal width are supported",
            path, kField, *width, item.get<int64_t>());
      }
    }
  }
  moe.expert_width = width.value_or(0);
  return absl::OkStatus();
}

// "score_scale_factor": a number, or a list with one for each layer.
absl::Status ReadScoreScale(const Json& config, const std::string& path, ModelConfig& result) {
  constexpr char kField[] = "score_scale_factor";
  JsonReader reader(config, path);
  if (!config.contains(kField) || !config[kField].is_array()) {
    result.moe.score_scale_factor = reader.Double(kField, 1.0);
    return reader.status();
  }
  std::vector<double> factors = reader.Doubles(kField);
  MOE_RETURN_IF_ERROR(reader.status());
  if (static_cast<int64_t>(factors.size()) != result.num_layers) {
    return InvalidArgument(
        "{}: {} is a list of {} factors; give one for all layers or one for "
        "each of num_hidden_layers={}",
        path, kField, factors.size(), result.num_layers);
  }
  const bool all_equal =
      std::adjacent_find(factors.begin(), factors.end(), std::not_equal_to<>()) == factors.end();
  result.moe.score_scale_factor = factors.front();
  if (!all_equal) result.moe.layer_scale_factors = std::move(factors);
  return absl::OkStatus();
}

// The fields that only model_type llama_moe_extended has.
absl::Status ReadExtensions(const Json& config, const std::string& path, MoeConfig& moe) {
  JsonReader reader(config, path);
  moe.shared_width = reader.Int("shared_expert_width", 0);
  moe.output_bias = reader.Bool("mlp_output_bias", false);
  if (reader.Has("dense_layers")) {
    for (const double layer : reader.Doubles("dense_layers")) {
      if (layer != std::floor(layer) || std::abs(layer) > kMaxSize) {
        return InvalidArgument("{}: dense_layers: {} is not a layer", path, layer);
      }
      moe.dense_layers.push_back(static_cast<int64_t>(layer));
    }
  }
  return reader.status();
}

// "gate_type" with its "calculator_type": the published code can run these two pairs.
absl::Status ReadGateType(const Json& config, const std::string& path, MoeConfig& moe) {
  JsonReader reader(config, path);
  const std::string gate = reader.String("gate_type", kTopKGate);
  const bool is_switch = gate == kSwitchGate;
  const char* expected = is_switch ? kSwitchCalculator : kTopKCalculator;
  const std::string calculator = reader.String("calculator_type", expected);
  const double capacity_factor = reader.Double("capacity_factor", kPublishedCapacity);
  const bool drops = reader.Bool("drop_tokens", true);
  const std::string padding = reader.String("dropped_padding", "zero");
  MOE_RETURN_IF_ERROR(reader.status());
  if (!is_switch && gate != kTopKGate) {
    return Unsupported(path, "gate_type", gate, fmt::format("{} or {}", kTopKGate, kSwitchGate));
  }
  if (calculator != expected) {
    return Unsupported(path, "calculator_type", calculator,
                       fmt::format("{} with gate_type {}", expected, gate));
  }
  if (!is_switch) return absl::OkStatus();
  moe.gate = "switch";
  if (!drops) return absl::OkStatus();
  if (padding != "zero") return Unsupported(path, "dropped_padding", padding, "zero");
  moe.capacity_factor = capacity_factor;
  return CheckPositive(path, "capacity_factor", capacity_factor);
}

absl::Status ReadMoe(const Json& config, const std::string& path, ModelConfig& result) {
  JsonReader reader(config, path);
  MoeConfig& moe = result.moe;
  moe.num_experts = reader.Int("num_experts", 16);
  moe.top_k = reader.Int("num_selects", 4);
  moe.gate_network = reader.String("gate_network", "mlp");
  MOE_RETURN_IF_ERROR(ReadGateType(config, path, moe));
  const bool use_balance = reader.Bool("gate_use_balance", true);
  const double balance_loss_weight = reader.Double("gate_balance_loss_weight", 0.01);
  moe.balance_loss_weight = use_balance ? balance_loss_weight : 0.0;
  moe.add_noise = reader.Bool("gate_add_noise", true);
  moe.noise_epsilon = reader.Double("gate_noise_epsilon", 0.01);
  moe.learn_scale = reader.Bool("add_weight_norm", false);
  MOE_RETURN_IF_ERROR(reader.status());
  MOE_RETURN_IF_ERROR(CheckRange(path, "num_experts", moe.num_experts, 1 << 16));
  MOE_RETURN_IF_ERROR(ReadExpertWidth(config, path, result));
  return ReadScoreScale(config, path, result);
}

// ---- GGUF ---------------------------------------------------------------------------------------

// GGUF keeps such numbers as float32; the double that the author wrote is the shortest decimal of
// it: 1e-05, not 9.999999747378752e-06.
double AsWritten(double float32_value) {
  std::array<char, 32> text;
  const auto end =
      std::to_chars(text.data(), text.data() + text.size(), static_cast<float>(float32_value)).ptr;
  double value = float32_value;
  std::from_chars(text.data(), end, value);
  return value;
}

absl::StatusOr<int64_t> IntOr(const GgufFile& file, const std::string& key, int64_t fallback) {
  if (!file.Has(key)) return fallback;
  return file.Int(key);
}

// Metadata of a llama file whose presence means a model that is not a plain LLaMA.
absl::Status CheckGgufIsPlainLlama(const GgufFile& file) {
  MOE_ASSIGN_OR_RETURN(const std::string architecture, file.String("general.architecture"));
  if (architecture != "llama") {
    return InvalidArgument("{}: general.architecture is '{}'; only llama is supported", file.path(),
                           architecture);
  }
  MOE_ASSIGN_OR_RETURN(const int64_t num_experts, IntOr(file, "llama.expert_count", 0));
  if (num_experts != 0) {
    return InvalidArgument("{}: llama.expert_count={}; only dense models are read from GGUF",
                           file.path(), num_experts);
  }
  constexpr char kScaling[] = "llama.rope.scaling.type";
  if (file.Has(kScaling)) {
    MOE_ASSIGN_OR_RETURN(const std::string scaling, file.String(kScaling));
    if (scaling != "none") {
      return InvalidArgument("{}: {} is '{}'; only none is supported", file.path(), kScaling,
                             scaling);
    }
  }
  if (file.Find("rope_freqs.weight") != nullptr) {
    return InvalidArgument(
        "{}: tensor rope_freqs.weight: scaled rotary frequencies (LLaMA 3.1) are not supported",
        file.path());
  }
  return absl::OkStatus();
}

// Whether the published code would compute something else.
bool HasExtensions(const MoeConfig& moe) {
  return moe.shared_width > 0 || !moe.dense_layers.empty() || moe.output_bias;
}

}  // namespace

bool ModelConfig::is_moe_layer(int64_t layer) const {
  return is_moe() && !std::binary_search(moe.dense_layers.begin(), moe.dense_layers.end(), layer);
}

absl::StatusOr<ModelConfig> ParseHfConfig(const Json& config, const std::string& path) {
  JsonReader reader(config, path);
  const std::string model_type = reader.String("model_type");
  MOE_RETURN_IF_ERROR(reader.status());
  const bool extended = model_type == "llama_moe_extended";
  const bool mixture = extended || model_type == "llama_moe";
  if (model_type != "llama" && model_type != "mistral" && !mixture) {
    return InvalidArgument(
        "{}: model_type '{}' is not supported; use llama, mistral, llama_moe or llama_moe_extended",
        path, model_type);
  }
  const bool mistral = model_type == "mistral";
  ModelConfig result;
  result.vocab_size = reader.Int("vocab_size");
  result.hidden_size = reader.Int("hidden_size");
  result.intermediate_size = reader.Int("intermediate_size");
  result.num_layers = reader.Int("num_hidden_layers");
  result.num_heads = reader.Int("num_attention_heads");
  result.num_kv_heads = reader.Int("num_key_value_heads", result.num_heads);
  result.context_length = reader.Int("max_position_embeddings", mistral ? 131072 : 2048);
  // Within the window, sliding-window attention is full attention.
  const int64_t window =
      mistral ? reader.Int("sliding_window", result.context_length) : result.context_length;
  result.context_length = std::min(result.context_length, window);
  result.rms_norm_eps = reader.Double("rms_norm_eps", 1e-6);
  result.tie_word_embeddings = reader.Bool("tie_word_embeddings", false);
  result.head_dim = reader.Int("head_dim", 0);
  MOE_RETURN_IF_ERROR(reader.status());
  if (!reader.Has("head_dim")) {
    MOE_ASSIGN_OR_RETURN(result.head_dim, DefaultHeadDim(result, path));
  }
  MOE_RETURN_IF_ERROR(CheckFixedSettings(config, path));
  MOE_RETURN_IF_ERROR(ReadRope(config, path, result));
  MOE_ASSIGN_OR_RETURN(result.bos_token_id, ReadTokenId(config, path, "bos_token_id", 1));
  MOE_ASSIGN_OR_RETURN(result.eos_token_id, ReadTokenId(config, path, "eos_token_id", 2));
  if (mixture) MOE_RETURN_IF_ERROR(ReadMoe(config, path, result));
  if (extended) MOE_RETURN_IF_ERROR(ReadExtensions(config, path, result.moe));
  MOE_RETURN_IF_ERROR(Check(result, path));
  return result;
}

Json RopeScalingToHf(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  if (scaling.type.empty()) return nullptr;
  Json json = {{"rope_type", scaling.type}, {"factor", scaling.factor}};
  if (scaling.type == "llama3") {
    json.update({{"low_freq_factor", scaling.low_freq_factor},
                 {"high_freq_factor", scaling.high_freq_factor},
                 {"original_max_position_embeddings", scaling.original_context}});
  }
  return json;
}

int64_t MaxPositionEmbeddings(const ModelConfig& config) {
  return config.rope_scaling.type == "dynamic" ? config.rope_scaling.original_context
                                               : config.context_length;
}

Json ToHfConfig(const ModelConfig& config, const std::string& torch_dtype) {
  const auto token_id = [](int64_t id) { return id < 0 ? Json(nullptr) : Json(id); };
  Json json = {
      {"architectures", {config.is_moe() ? "LlamaMoEForCausalLM" : "LlamaForCausalLM"}},
      {"model_type", config.is_moe() ? "llama_moe" : "llama"},
      {"torch_dtype", torch_dtype},
      {"vocab_size", config.vocab_size},
      {"hidden_size", config.hidden_size},
      {"intermediate_size", config.intermediate_size},
      {"num_hidden_layers", config.num_layers},
      {"num_attention_heads", config.num_heads},
      {"num_key_value_heads", config.num_kv_heads},
      {"head_dim", config.head_dim},
      {"hidden_act", "silu"},
      {"max_position_embeddings", MaxPositionEmbeddings(config)},
      {"initializer_range", 0.02},
      {"rms_norm_eps", config.rms_norm_eps},
      {"rope_theta", config.rope_theta},
      {"rope_scaling", RopeScalingToHf(config)},
      {"attention_bias", false},
      {"attention_dropout", 0.0},
      {"pretraining_tp", 1},
      {"tie_word_embeddings", config.tie_word_embeddings},
      {"use_cache", true},
      {"bos_token_id", token_id(config.bos_token_id)},
      {"eos_token_id", token_id(config.eos_token_id)},
      {"pad_token_id", nullptr},
  };
  if (!config.is_moe()) {
    json["mlp_bias"] = false;
    return json;
  }
  const MoeConfig& moe = config.moe;
  const std::vector<int64_t> layer(static_cast<size_t>(moe.num_experts), moe.expert_width);
  json.update({
      {"num_experts", moe.num_experts},
      {"num_selects", moe.top_k},
      {"size_experts", Json(static_cast<size_t>(config.num_layers), Json(layer))},
      {"gate_type", moe.is_switch() ? kSwitchGate : kTopKGate},
      {"gate_network", moe.gate_network},
      {"gate_use_softmax", true},
      {"gate_use_balance", true},
      {"gate_balance_loss_weight", moe.balance_loss_weight},
      {"gate_add_noise", moe.add_noise},
      {"gate_noise_epsilon", moe.noise_epsilon},
      {"calculator_type", moe.is_switch() ? kSwitchCalculator : kTopKCalculator},
      {"multiply_gate_scores", true},
      {"score_scale_factor", moe.layer_scale_factors.empty() ? Json(moe.score_scale_factor)
                                                             : Json(moe.layer_scale_factors)},
      {"add_weight_norm", moe.learn_scale},
      {"drop_tokens", !moe.is_switch() || moe.capacity_factor > 0},
      {"dropped_padding", "zero"},
      {"capacity_factor", moe.capacity_factor > 0 ? moe.capacity_factor : kPublishedCapacity},
  });
  if (HasExtensions(moe)) {
    json.update({{"architectures", {"LlamaMoEExtendedForCausalLM"}},
                 {"model_type", "llama_moe_extended"},
                 {"shared_expert_width", moe.shared_width},
                 {"dense_layers", moe.dense_layers},
                 {"mlp_output_bias", moe.output_bias}});
  }
  return json;
}

absl::StatusOr<ModelConfig> ParseGgufConfig(const GgufFile& file) {
  MOE_RETURN_IF_ERROR(CheckGgufIsPlainLlama(file));
  ModelConfig config;
  MOE_ASSIGN_OR_RETURN(config.hidden_size, file.Int("llama.embedding_length"));
  MOE_ASSIGN_OR_RETURN(config.num_layers, file.Int("llama.block_count"));
  MOE_ASSIGN_OR_RETURN(config.intermediate_size, file.Int("llama.feed_forward_length"));
  MOE_ASSIGN_OR_RETURN(config.num_heads, file.Int("llama.attention.head_count"));
  MOE_ASSIGN_OR_RETURN(config.num_kv_heads,
                       IntOr(file, "llama.attention.head_count_kv", config.num_heads));
  MOE_ASSIGN_OR_RETURN(config.context_length, file.Int("llama.context_length"));
  MOE_ASSIGN_OR_RETURN(const double eps, file.Double("llama.attention.layer_norm_rms_epsilon"));
  config.rms_norm_eps = AsWritten(eps);
  if (file.Has("llama.rope.freq_base")) {
    MOE_ASSIGN_OR_RETURN(const double theta, file.Double("llama.rope.freq_base"));
    config.rope_theta = AsWritten(theta);
  }
  if (file.Has("llama.vocab_size")) {
    MOE_ASSIGN_OR_RETURN(config.vocab_size, file.Int("llama.vocab_size"));
  } else {
    MOE_ASSIGN_OR_RETURN(config.vocab_size, file.ArraySize("tokenizer.ggml.tokens"));
  }
  MOE_ASSIGN_OR_RETURN(const int64_t default_head_dim, DefaultHeadDim(config, file.path()));
  MOE_ASSIGN_OR_RETURN(config.head_dim,
                       IntOr(file, "llama.attention.key_length", default_head_dim));
  MOE_ASSIGN_OR_RETURN(const int64_t rotated,
                       IntOr(file, "llama.rope.dimension_count", config.head_dim));
  if (rotated != config.head_dim) {
    return InvalidArgument(
        "{}: llama.rope.dimension_count={} of head_dim={}; partial rotary "
        "embeddings are not supported",
        file.path(), rotated, config.head_dim);
  }
  MOE_ASSIGN_OR_RETURN(config.bos_token_id, IntOr(file, "tokenizer.ggml.bos_token_id", -1));
  MOE_ASSIGN_OR_RETURN(config.eos_token_id, IntOr(file, "tokenizer.ggml.eos_token_id", -1));
  config.tie_word_embeddings = file.Find("output.weight") == nullptr;
  MOE_RETURN_IF_ERROR(Check(config, file.path()));
  return config;
}

absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& path) {
  std::error_code error;
  const auto type = std::filesystem::status(path, error).type();
  if (type == std::filesystem::file_type::not_found) {
    return NotFound("{}: there is no such model; give a GGUF file or a folder with config.json",
                    path);
  }
  if (error) return ErrnoStatus(error.value(), "cannot look at " + path);
  if (type == std::filesystem::file_type::directory) {
    const std::string config_path = JoinPath(path, "config.json");
    if (!FileExists(config_path)) {
      return NotFound("{}: a folder without config.json; give the folder of a Hugging Face model",
                      path);
    }
    MOE_ASSIGN_OR_RETURN(const Json config, ReadJsonFile(config_path));
    return ParseHfConfig(config, config_path);
  }
  absl::StatusOr<GgufFile> file = GgufFile::Open(path);
  if (!file.ok()) return Annotate(file.status(), "cannot read the model");
  return ParseGgufConfig(*file);
}

}  // namespace moe::artefacts
