#include "storage/artefacts/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::artefacts {
namespace {

using testing::HasSubstr;

Json Dense() {
  return {{"model_type", "llama"},      {"vocab_size", 100},      {"hidden_size", 64},
          {"intermediate_size", 96},    {"num_hidden_layers", 3}, {"num_attention_heads", 4},
          {"num_key_value_heads", 2},   {"rms_norm_eps", 1e-5},   {"max_position_embeddings", 512},
          {"rope_theta", 10000.0},      {"hidden_act", "silu"},   {"rope_scaling", nullptr},
          {"tie_word_embeddings", true}};
}

Json Moe() {
  Json config = Dense();
  config.update({{"model_type", "llama_moe"},
                 {"num_experts", 4},
                 {"num_selects", 2},
                 {"size_experts", Json(3, Json(4, Json(24)))},
                 {"score_scale_factor", 2.0}});
  return config;
}

Json With(Json config, const std::string& field, const Json& value) {
  config[field] = value;
  return config;
}
Json Without(Json config, const std::string& field) {
  config.erase(field);
  return config;
}

void ExpectRefused(const Json& config, const std::string& message) {
  const auto parsed = ParseHfConfig(config, "config.json");
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << message;
  EXPECT_THAT(Message(parsed.status()), HasSubstr("config.json: " + message));
}

TEST(ParseHfConfig, Dense_ReadsTheFields) {
  const auto config = ParseHfConfig(Dense(), "config.json");
  ASSERT_TRUE(config.ok()) << ToString(config.status());
  EXPECT_EQ(config->vocab_size, 100);
  EXPECT_EQ(config->num_layers, 3);
  EXPECT_EQ(config->num_kv_heads, 2);
  EXPECT_EQ(config->head_dim, 16);
  EXPECT_EQ(config->context_length, 512);
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_FALSE(config->is_moe());
}

TEST(ParseHfConfig, AbsentFields_TakeTheDefaultsOfLlamaConfig) {
  Json json = Dense();
  for (const char* field : {"num_key_value_heads", "rms_norm_eps", "max_position_embeddings",
                            "rope_theta", "tie_word_embeddings"}) {
    json.erase(field);
  }
  const auto config = ParseHfConfig(json, "config.json");
  ASSERT_TRUE(config.ok()) << ToString(config.status());
  EXPECT_EQ(config->num_kv_heads, 4);
  EXPECT_EQ(config->rms_norm_eps, 1e-6);
  EXPECT_EQ(config->context_length, 2048);
  EXPECT_EQ(config->rope_theta, 10000.0);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_EQ(config->bos_token_id, 1);
  EXPECT_EQ(config->eos_token_id, 2);
}

TEST(ParseHfConfig, VariantsOfTheFormat_AreUnderstood) {
  Json json = With(Dense(), "eos_token_id", {7, 8});  // LLaMA 3: the first of several
  json["bos_token_id"] = nullptr;
  json.erase("rope_theta");
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5e5}};  // transformers 5
  const auto llama = ParseHfConfig(json, "config.json");
  ASSERT_TRUE(llama.ok()) << ToString(llama.status());
  EXPECT_EQ(llama->eos_token_id, 7);
  EXPECT_EQ(llama->bos_token_id, -1);
  EXPECT_EQ(llama->rope_theta, 5e5);

  const auto mistral =
      ParseHfConfig(With(With(Dense(), "model_type", "mistral"), "sliding_window", 256), "c");
  ASSERT_TRUE(mistral.ok()) << ToString(mistral.status());
  EXPECT_EQ(mistral->context_length, 256);
}

TEST(ParseHfConfig, RopeScaling_IsReadAndWrittenBack) {
  const auto linear =
      ParseHfConfig(With(Dense(), "rope_scaling", {{"type", "linear"}, {"factor", 4.0}}), "c");
  ASSERT_TRUE(linear.ok()) << ToString(linear.status());
  EXPECT_EQ(linear->rope_scaling.type, "linear");
  EXPECT_EQ(linear->context_length, ParseHfConfig(Dense(), "c")->context_length);
  EXPECT_EQ(linear->rope_scaling.original_context, linear->context_length / 4);

  const auto dynamic = ParseHfConfig(
      With(Dense(), "rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2.0}}), "c");
  ASSERT_TRUE(dynamic.ok()) << ToString(dynamic.status());
  EXPECT_EQ(dynamic->context_length, 2 * dynamic->rope_scaling.original_context);

  const auto llama3 = ParseHfConfig(With(Dense(), "rope_parameters",
                                         {{"rope_type", "llama3"},
                                          {"rope_theta", 5e5},
                                          {"factor", 8.0},
                                          {"low_freq_factor", 1.0},
                                          {"high_freq_factor", 4.0},
                                          {"original_max_position_embeddings", 64}}),
                                    "c");
  ASSERT_TRUE(llama3.ok()) << ToString(llama3.status());
  EXPECT_EQ(llama3->rope_theta, 5e5);
  EXPECT_EQ(llama3->rope_scaling.original_context, 64);

  for (const ModelConfig& config : {*linear, *dynamic, *llama3}) {
    const auto again = ParseHfConfig(ToHfConfig(config, "float32"), "c");
    ASSERT_TRUE(again.ok()) << ToString(again.status());
    EXPECT_EQ(ToHfConfig(*again, "float32"), ToHfConfig(config, "float32"));
    EXPECT_EQ(again->context_length, config.context_length);
    EXPECT_EQ(again->rope_scaling.original_context, config.rope_scaling.original_context);
  }
}

TEST(ParseHfConfig, UnsupportedOrImpossibleValues_AreRefusedByName) {
  ExpectRefused(Json::array(), "expected a JSON object");
  ExpectRefused(Without(Dense(), "model_type"), "model_type: missing");
  ExpectRefused(Without(Dense(), "hidden_size"), "hidden_size: missing");
  ExpectRefused(With(Dense(), "model_type", "gpt2"), "model_type 'gpt2' is not supported");
  ExpectRefused(With(Dense(), "hidden_act", "gelu"), "hidden_act=\"gelu\" is not supported");
  ExpectRefused(With(Dense(), "attention_bias", true), "attention_bias=true is not supported");
  ExpectRefused(With(Dense(), "mlp_bias", true), "mlp_bias=true is not supported");
  ExpectRefused(With(Dense(), "rope_scaling", {{"type", "yarn"}, {"factor", 2.0}}),
                "rope_scaling={\"factor\":2.0,\"type\":\"yarn\"} is not supported");
  ExpectRefused(With(Dense(), "rope_scaling", {{"type", "linear"}}),
                "rope_scaling: factor: missing");
  ExpectRefused(With(Dense(), "rope_scaling", {{"type", "linear"}, {"factor", 0.5}}),
                "rope_scaling: factor=0.5 must be at least 1");
  ExpectRefused(With(Dense(), "rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}}),
                "rope_scaling: low_freq_factor: missing");
  ExpectRefused(With(Dense(), "vocab_size", 0), "vocab_size=0 is out of range");
  ExpectRefused(With(Dense(), "hidden_size", int64_t{1} << 40), "hidden_size=1099511627776");
  ExpectRefused(With(Dense(), "num_attention_heads", 5),
                "num_attention_heads=5 does not divide hidden_size=64");
  ExpectRefused(With(Dense(), "num_attention_heads", 0),
                "num_attention_heads=0 does not divide hidden_size=64");
  ExpectRefused(With(Dense(), "num_key_value_heads", 3),
                "num_key_value_heads=3 does not divide num_attention_heads=4");
  ExpectRefused(With(Dense(), "head_dim", 15), "head_dim=15 is odd");
  ExpectRefused(With(Dense(), "rms_norm_eps", 0.0), "rms_norm_eps=0 is out of range");
  ExpectRefused(With(Dense(), "eos_token_id", 100), "eos_token_id=100 is not below vocab_size=100");
  ExpectRefused(With(Dense(), "bos_token_id", "x"), "bos_token_id=\"x\" is not a token id");
}

Json Switch(int64_t top_k) {
  Json config = Moe();
  config.update({{"gate_type", "SwitchBalancedGate"},
                 {"calculator_type", "SwitchDropTokenCalculator"},
                 {"num_selects", top_k},
                 {"capacity_factor", 1.5}});
  return config;
}

TEST(ParseHfConfig, SwitchGate_ParsesBackToTheSame) {
  const auto limited = ParseHfConfig(Switch(1), "config.json");
  ASSERT_TRUE(limited.ok()) << ToString(limited.status());
  EXPECT_TRUE(limited->moe.is_switch());
  EXPECT_EQ(limited->moe.capacity_factor, 1.5);
  EXPECT_EQ(ToHfConfig(*limited, "float32")["capacity_factor"], 1.5);
  EXPECT_EQ(ToHfConfig(*limited, "float32")["drop_tokens"], true);

  const auto unlimited = ParseHfConfig(With(Switch(1), "drop_tokens", false), "config.json");
  ASSERT_TRUE(unlimited.ok()) << ToString(unlimited.status());
  EXPECT_EQ(unlimited->moe.capacity_factor, 0);
  EXPECT_EQ(ToHfConfig(*unlimited, "float32")["drop_tokens"], false);
}

TEST(ParseHfConfig, UnsupportedMixtures_AreRefusedByName) {
  ExpectRefused(With(Moe(), "num_selects", 5), "num_selects=5 is out of range; use 1 to 4");
  ExpectRefused(With(Moe(), "num_experts", 0), "num_experts=0 is out of range");
  ExpectRefused(With(Moe(), "size_experts", Json(3, Json{24, 24, 20, 28})),
                "size_experts: experts of the widths 24 and 20");
  ExpectRefused(With(Moe(), "size_experts", Json(2, Json(4, Json(24)))),
                "size_experts is not a list of num_hidden_layers=3 lists");
  ExpectRefused(With(Moe(), "size_experts", Json(3, Json(3, Json(24)))),
                "size_experts: [24,24,24]");
  ExpectRefused(With(With(Moe(), "size_experts", nullptr), "num_experts", 7),
                "num_experts=7 does not divide intermediate_size=96");
  ExpectRefused(With(Moe(), "gate_type", "RandomPlainGate"), "gate_type=\"RandomPlainGate\"");
  ExpectRefused(With(Moe(), "calculator_type", "SwitchDropTokenCalculator"), "calculator_type=");
  ExpectRefused(Switch(2), "num_selects=2 with the switch gate");
  ExpectRefused(With(Switch(1), "calculator_type", "UniversalCalculator"),
                "calculator_type=\"UniversalCalculator\" is not supported; only "
                "SwitchDropTokenCalculator with gate_type SwitchBalancedGate is");
  ExpectRefused(With(Switch(1), "dropped_padding", "input"), "dropped_padding=\"input\"");
  ExpectRefused(With(Switch(1), "capacity_factor", 0.0), "capacity_factor=0 is out of range");
  ExpectRefused(With(Moe(), "gate_network", "cnn"), "gate_network 'cnn' is not supported");
  ExpectRefused(With(Moe(), "score_scale_factor", {1.0, 2.0}),
                "score_scale_factor is a list of 2 factors");
  ExpectRefused(With(Moe(), "score_scale_factor", {1.0, 0.0, 1.0}),
                "score_scale_factor=0 is out of range");
  ExpectRefused(With(Moe(), "score_scale_factor", -1.0), "score_scale_factor=-1 is out of range");
}

Json Extended() {
  Json config = Moe();
  config.update({{"model_type", "llama_moe_extended"},
                 {"score_scale_factor", {1.5, 2.0, 1.0}},
                 {"shared_expert_width", 20},
                 {"dense_layers", {0, 2}},
                 {"mlp_output_bias", true}});
  return config;
}

TEST(ParseHfConfig, ExtendedMixture_ParsesBackToTheSame) {
  const auto config = ParseHfConfig(Extended(), "config.json");
  ASSERT_TRUE(config.ok()) << ToString(config.status());
  EXPECT_EQ(config->moe.shared_width, 20);
  EXPECT_EQ(config->moe.ScaleFactor(1), 2.0);
  EXPECT_TRUE(config->moe.output_bias);
  EXPECT_EQ(config->num_moe_layers(), 1);
  EXPECT_FALSE(config->is_moe_layer(0));
  EXPECT_TRUE(config->is_moe_layer(1));
  EXPECT_FALSE(config->is_moe_layer(2));
  const Json json = ToHfConfig(*config, "float32");
  EXPECT_EQ(json["model_type"], "llama_moe_extended");
  EXPECT_EQ(json["dense_layers"], Json({0, 2}));
  const auto back = ParseHfConfig(json, "c");
  ASSERT_TRUE(back.ok()) << ToString(back.status());
  EXPECT_EQ(ToHfConfig(*back, "float32"), json);
}

TEST(ParseHfConfig, ImpossibleExtensions_AreRefusedByName) {
  ExpectRefused(With(Extended(), "dense_layers", {0, 1, 2}), "dense_layers names all 3 layers");
  ExpectRefused(With(Extended(), "dense_layers", {2, 0}), "dense_layers=[2, 0] must ascend");
  ExpectRefused(With(Extended(), "dense_layers", {3}), "dense_layers=[3] must ascend from 0 to");
  ExpectRefused(With(Extended(), "dense_layers", {0.5}), "dense_layers: 0.5 is not a layer");
  ExpectRefused(With(Extended(), "shared_expert_width", -1),
                "shared_expert_width=-1 is out of range");
}

TEST(ParseHfConfig, LearnedScale_IsThePublishedWeightNorm) {
  const auto config = ParseHfConfig(With(Moe(), "add_weight_norm", true), "config.json");
  ASSERT_TRUE(config.ok()) << ToString(config.status());
  EXPECT_TRUE(config->moe.learn_scale);
  EXPECT_EQ(ToHfConfig(*config, "float32")["model_type"], "llama_moe");
}

TEST(ParseHfConfig, PublishedMixtureLayout_IsRead) {
  Json json = Moe();
  json["score_scale_factor"] = {4.0, 4.0, 4.0};
  json["gate_network"] = "linear";
  json["gate_use_balance"] = false;
  const auto config = ParseHfConfig(json, "config.json");
  ASSERT_TRUE(config.ok()) << ToString(config.status());
  EXPECT_EQ(config->moe.num_experts, 4);
  EXPECT_EQ(config->moe.top_k, 2);
  EXPECT_EQ(config->moe.expert_width, 24);
  EXPECT_EQ(config->moe.score_scale_factor, 4.0);
  EXPECT_EQ(config->moe.gate_network, "linear");
  EXPECT_EQ(config->moe.balance_loss_weight, 0.0);
  EXPECT_TRUE(config->moe.add_noise);
}

TEST(ToHfConfig, Dense_ParsesBackToTheSame) {
  ModelConfig config = *ParseHfConfig(Dense(), "c");
  config.bos_token_id = -1;
  const Json json = ToHfConfig(config, "bfloat16");
  EXPECT_EQ(json["architectures"], Json::array({"LlamaForCausalLM"}));
  EXPECT_EQ(json["torch_dtype"], "bfloat16");
  const auto back = ParseHfConfig(json, "c");
  ASSERT_TRUE(back.ok()) << ToString(back.status());
  EXPECT_EQ(ToHfConfig(*back, "bfloat16"), json);
  EXPECT_EQ(back->bos_token_id, -1);
}

TEST(ToHfConfig, Mixture_HasThePublishedFieldsAndParsesBack) {
  ModelConfig config = *ParseHfConfig(Moe(), "c");
  config.moe.add_noise = false;
  config.moe.noise_epsilon = 0.02;
  config.moe.balance_loss_weight = 0.05;
  const Json json = ToHfConfig(config, "float32");
  EXPECT_EQ(json["architectures"], Json::array({"LlamaMoEForCausalLM"}));
  EXPECT_EQ(json["model_type"], "llama_moe");
  EXPECT_EQ(json["size_experts"], Json(3, Json(4, Json(24))));
  EXPECT_EQ(json["gate_type"], "TopKBalancedNoisyGate");
  EXPECT_EQ(json["calculator_type"], "UniversalCalculator");
  const auto back = ParseHfConfig(json, "c");
  ASSERT_TRUE(back.ok()) << ToString(back.status());
  EXPECT_EQ(ToHfConfig(*back, "float32"), json);
  EXPECT_FALSE(back->moe.add_noise);
  EXPECT_EQ(back->moe.balance_loss_weight, 0.05);
}

TEST(ReadModelConfig, FindsWhatIsAtThePath) {
  TemporaryFolder folder;
  folder.Write("model/config.json", Dense().dump());
  EXPECT_TRUE(ReadModelConfig(folder.File("model")).ok());
  const auto missing = ReadModelConfig(folder.File("absent"));
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(missing.status()), HasSubstr("absent: there is no such model"));
  const auto empty = ReadModelConfig(folder.path());
  EXPECT_EQ(empty.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(empty.status()), HasSubstr("a folder without config.json"));
  const auto text = ReadModelConfig(folder.Write("model.txt", "hello"));
  EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(text.status()), HasSubstr("is not a GGUF file"));
  folder.Write("broken/config.json", "{");
  EXPECT_THAT(Message(ReadModelConfig(folder.File("broken")).status()),
              HasSubstr("config.json is not valid JSON"));
}

}  // namespace
}  // namespace moe::artefacts
