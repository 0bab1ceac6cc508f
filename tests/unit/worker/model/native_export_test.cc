#include "worker/model/native_export.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "common/status.h"
#include "worker/model/arena.h"
#include "worker/model/parameters.h"

namespace moe::model {
namespace {

using ::testing::HasSubstr;

artefacts::ModelConfig Mixture() {
  artefacts::ModelConfig config;
  config.vocab_size = 37;
  config.hidden_size = 24;
  config.intermediate_size = 48;
  config.num_layers = 3;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 6;
  config.context_length = 64;
  config.moe.num_experts = 6;
  config.moe.top_k = 2;
  config.moe.expert_width = 8;
  config.moe.gate_network = "linear";
  config.moe.score_scale_factor = 3.0;
  return config;
}

artefacts::ModelConfig WithSharedExpert() {
  artefacts::ModelConfig config = Mixture();
  config.moe.num_experts = 4;
  config.moe.shared_width = 16;
  config.moe.dense_layers = {1};
  config.moe.layer_scale_factors = {3.0, 1.0, 0.5};
  return config;
}

at::Tensor Parameters(const artefacts::ModelConfig& config) {
  return at::randn({ParameterLayout(config).arena_numel()}, at::kFloat);
}

// The tensors by name.
class Named {
 public:
  explicit Named(const NativeModel& model) {
    for (const HfTensor& tensor : model.tensors) {
      tensors_[tensor.name] =
          model.values.narrow(0, tensor.offset, tensor.numel).view(tensor.shape);
    }
  }
  const at::Tensor& operator[](const std::string& name) const { return tensors_.at(name); }
  bool Has(const std::string& name) const { return tensors_.count(name) > 0; }
  size_t size() const { return tensors_.size(); }

 private:
  std::map<std::string, at::Tensor> tensors_;
};

TEST(ToNative, Mixtral_FoldsTheScaleAndDropsTheNoise) {
  const artefacts::ModelConfig config = Mixture();
  const at::Tensor parameters = Parameters(config);
  const auto native = ToNative(NativeArchitecture::kMixtral, config, parameters);
  ASSERT_TRUE(native.ok()) << ToString(native.status());
  EXPECT_EQ(native->config["architectures"], Json::array({"MixtralForCausalLM"}));
  EXPECT_EQ(native->config["intermediate_size"], 8);
  EXPECT_EQ(native->config["num_local_experts"], 6);

  const ParameterLayout layout(config);
  const Named tensors(*native);
  const std::string experts = "model.layers.2.block_sparse_moe.experts.5.";
  const at::Tensor gate_up = View(parameters, layout.Find("layers.2.experts.gate_up"))[5];
  EXPECT_TRUE(at::equal(tensors[experts + "w1.weight"], gate_up.narrow(0, 0, 8)));
  EXPECT_TRUE(at::equal(tensors[experts + "w3.weight"], gate_up.narrow(0, 8, 8)));
  EXPECT_TRUE(at::equal(tensors[experts + "w2.weight"],
                        View(parameters, layout.Find("layers.2.experts.down"))[5] * 3.0));
  EXPECT_TRUE(at::equal(tensors["model.layers.2.block_sparse_moe.gate.weight"],
                        View(parameters, layout.Find("layers.2.router.0"))));
  // Per layer: two norms, q, k, v, o, the gate and 18 matrices; embedding, norm, head.
  EXPECT_EQ(tensors.size(), 3u * 25 + 3);
}

TEST(ToNative, Qwen2Moe_DoublesWhatItsSigmoidHalves) {
  const artefacts::ModelConfig config = WithSharedExpert();
  const at::Tensor parameters = Parameters(config);
  const auto native = ToNative(NativeArchitecture::kQwen2Moe, config, parameters);
  ASSERT_TRUE(native.ok()) << ToString(native.status());
  EXPECT_EQ(native->config["mlp_only_layers"], Json({1}));
  EXPECT_EQ(native->config["norm_topk_prob"], true);

  const ParameterLayout layout(config);
  const Named tensors(*native);
  EXPECT_TRUE(at::equal(tensors["model.layers.2.mlp.shared_expert.down_proj.weight"],
                        View(parameters, layout.Find("layers.2.shared.down")) * 2.0));
  EXPECT_TRUE(at::equal(tensors["model.layers.2.mlp.experts.1.down_proj.weight"],
                        View(parameters, layout.Find("layers.2.experts.down"))[1] * 0.5));
  EXPECT_TRUE(at::equal(tensors["model.layers.1.mlp.down_proj.weight"],
                        View(parameters, layout.Find("layers.1.down"))));
  for (const char* zero : {"mlp.shared_expert_gate.weight", "self_attn.q_proj.bias",
                           "self_attn.k_proj.bias", "self_attn.v_proj.bias"}) {
    EXPECT_EQ(tensors[std::string("model.layers.0.") + zero].abs().max().item<float>(), 0) << zero;
  }
  EXPECT_FALSE(tensors.Has("model.layers.1.mlp.shared_expert_gate.weight"));
}

TEST(ToNative, WhatTheArchitectureCannotHold_IsRefusedWithTheFix) {
  const auto refusal = [](NativeArchitecture architecture, const artefacts::ModelConfig& config) {
    return ToString(ToNative(architecture, config, Parameters(config)).status());
  };
  artefacts::ModelConfig mlp = Mixture();
  mlp.moe.gate_network = "mlp";
  EXPECT_THAT(refusal(NativeArchitecture::kMixtral, mlp), HasSubstr("gate_network linear"));
  artefacts::ModelConfig switched = Mixture();
  switched.moe.gate = "switch";
  switched.moe.top_k = 1;
  EXPECT_THAT(refusal(NativeArchitecture::kMixtral, switched), HasSubstr("switch gate"));
  artefacts::ModelConfig biased = WithSharedExpert();
  biased.moe.output_bias = true;
  EXPECT_THAT(refusal(NativeArchitecture::kQwen2Moe, biased), HasSubstr("mean_vector false"));
  EXPECT_THAT(refusal(NativeArchitecture::kMixtral, WithSharedExpert()), HasSubstr("qwen2-moe"));
  EXPECT_THAT(refusal(NativeArchitecture::kQwen2Moe, Mixture()), HasSubstr("use mixtral"));
  artefacts::ModelConfig dense = Mixture();
  dense.moe = {};
  EXPECT_THAT(refusal(NativeArchitecture::kMixtral, dense), HasSubstr("use llama"));
}

TEST(ToDense, AllExperts_HoldEveryNeuronOnce) {
  const artefacts::ModelConfig config = WithSharedExpert();
  const at::Tensor parameters = Parameters(config);
  const auto dense = ToDense(config, parameters);
  ASSERT_TRUE(dense.ok()) << ToString(dense.status());
  EXPECT_FALSE(dense->config.is_moe());
  const ParameterLayout from(config), to(dense->config);
  const at::Tensor down = View(dense->parameters, to.Find("layers.2.down"));
  const at::Tensor gate_up = View(dense->parameters, to.Find("layers.2.gate_up"));
  EXPECT_TRUE(
      at::equal(down.narrow(1, 0, 16), View(parameters, from.Find("layers.2.shared.down"))));
  const at::Tensor expert = View(parameters, from.Find("layers.2.experts.gate_up"))[3];
  EXPECT_TRUE(at::equal(gate_up.narrow(0, 16 + 24, 8), expert.narrow(0, 0, 8)));
  EXPECT_TRUE(at::equal(gate_up.narrow(0, 48 + 16 + 24, 8), expert.narrow(0, 8, 8)));
  EXPECT_TRUE(at::equal(View(dense->parameters, to.Find("layers.1.gate_up")),
                        View(parameters, from.Find("layers.1.gate_up"))));
}

TEST(ToDense, ExpertsThatShareNeurons_AreRefusedWithTheNumbers) {
  artefacts::ModelConfig config = Mixture();
  config.moe.shared_width = 8;
  EXPECT_THAT(ToString(ToDense(config, Parameters(config)).status()),
              HasSubstr("have 56 neurons, the dense FFN has 48"));
}

}  // namespace
}  // namespace moe::model
