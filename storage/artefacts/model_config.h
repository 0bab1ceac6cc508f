// The shape of a model: what config.json and a GGUF header say, in one struct.
//
// The one place that knows the field names of Hugging Face configs (LlamaConfig, MistralConfig and
// the published LlamaMoEConfig) and of GGUF metadata.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"

namespace moe::artefacts {

class GgufFile;

// The mixture-of-experts part; absent (num_experts 0) in a dense model.
struct MoeConfig {
  int64_t num_experts = 0;
  int64_t top_k = 0;                 // "num_selects"
  int64_t expert_width = 0;          // FFN width of one expert; "size_experts" when all are equal
  std::string gate_network = "mlp";  // "mlp" or "linear"
  std::string gate = "noisy-top-k";  // or "switch"; "gate_type"
  // Of a switch gate: an expert takes at most so many equal shares of the tokens; 0: no limit.
  // "capacity_factor" with "drop_tokens"
  double capacity_factor = 0;
  double score_scale_factor = 1.0;
  std::vector<double> layer_scale_factors = {};  // one per layer instead, or empty
  bool learn_scale = false;  // a weight of each layer instead of the factor; "add_weight_norm"
  // Beyond the published models (docs/formats/model.md).
  int64_t shared_width = 0;                // of an FFN that every token passes beside its experts
  std::vector<int64_t> dense_layers = {};  // ascending: layers that keep their FFN
  bool output_bias = false;                // a constant vector is added to each mixture's output
  double balance_loss_weight = 0.01;
  bool add_noise = true;
  double noise_epsilon = 0.01;

  bool is_switch() const { return gate == "switch"; }
  // Whether a gate learns how much noise it adds.
  bool has_noise_weight() const { return add_noise && !is_switch(); }
  // The constant factor of `layer`; without meaning where the scale is learned.
  double ScaleFactor(int64_t layer) const {
    return layer_scale_factors.empty() ? score_scale_factor : layer_scale_factors[layer];
  }
};

// Rotary positions beyond those that the model was first trained on, as transformers defines them.
struct RopeScaling {
  std::string type = {};  // "": none; "linear", "dynamic" or "llama3"
  double factor = 1.0;
  double low_freq_factor = 1.0;  // llama3
  double high_freq_factor = 4.0;
  int64_t original_context = 0;  // positions that the model was first trained on
};

struct ModelConfig {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t context_length = 0;  // "max_position_embeddings"
  double rms_norm_eps = 1e-5;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling = {};
  bool tie_word_embeddings = false;
  int64_t bos_token_id = -1;  // -1: none
  int64_t eos_token_id = -1;
  MoeConfig moe;

  bool is_moe() const { return moe.num_experts > 0; }
  // Whether `layer` has experts: not in a dense model, and not where a mixture was left dense.
  bool is_moe_layer(int64_t layer) const;
  // Layers with experts.
  int64_t num_moe_layers() const {
    return is_moe() ? num_layers - static_cast<int64_t>(moe.dense_layers.size()) : 0;
  }
};

// From a Hugging Face config.json (model_type llama, mistral, llama_moe or llama_moe_extended).
// INVALID_ARGUMENT names the field where one is missing, out of range, or asks for what is not
// supported (other rope_scaling than the above, biases, another activation than silu, experts of
// unequal size).
absl::StatusOr<ModelConfig> ParseHfConfig(const Json& config, const std::string& path);
// The published layout of LlamaConfig or LlamaMoEConfig (docs/formats/model.md), with
// "torch_dtype" as given.
Json ToHfConfig(const ModelConfig& config, const std::string& torch_dtype);

// "rope_scaling" of a Hugging Face config, null where there is none; and the
// "max_position_embeddings" that go with it.
Json RopeScalingToHf(const ModelConfig& config);
int64_t MaxPositionEmbeddings(const ModelConfig& config);

// From the metadata of a GGUF file of the architecture `llama`. INVALID_ARGUMENT as above.
absl::StatusOr<ModelConfig> ParseGgufConfig(const GgufFile& file);

// Reads the config of whatever is at `path`: a GGUF file, or a folder with config.json (a Hugging
// Face model or one of our checkpoints). NOT_FOUND, INVALID_ARGUMENT or DATA_LOSS with the fix.
absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& path);

}  // namespace moe::artefacts
