#include "worker/construction/build.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "common/philox.h"
#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"
#include "worker/model/arena.h"
#include "worker/model/float_codec.h"
#include "worker/model/hf_export.h"

namespace moe::construction {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kSeed = 1227;

artefacts::ModelConfig Dense() {
  return {.vocab_size = 50,
          .hidden_size = 32,
          .intermediate_size = 96,
          .num_layers = 3,
          .num_heads = 4,
          .num_kv_heads = 2,
          .head_dim = 8,
          .context_length = 64,
          .tie_word_embeddings = true,
          .moe = {}};
}

artefacts::MoeConfig Moe(int64_t num_experts, int64_t top_k) {
  return {.num_experts = num_experts, .top_k = top_k, .score_scale_factor = 4.0};
}

at::Tensor RandomVector(int64_t numel, uint32_t substream) {
  at::Tensor values = at::zeros({numel}, at::kFloat);
  float* out = values.mutable_data_ptr<float>();
  for (int64_t i = 0; i < numel; ++i) {
    out[i] = Normal4(Philox(3, RandomStream::kTest, substream, i))[0];
  }
  return values;
}

// down silu(gate x) * (up x), with gate over up in one matrix.
at::Tensor Ffn(const at::Tensor& x_Td, const at::Tensor& gate_up, const at::Tensor& down) {
  const at::Tensor hidden = at::mm(x_Td, gate_up.t());
  const int64_t width = down.size(1);
  const at::Tensor activated =
      at::silu(hidden.narrow(1, 0, width)).mul(hidden.narrow(1, width, width));
  return at::mm(activated, down.t());
}

class BuildMoeTest : public ::testing::Test {
 protected:
  void Build(const artefacts::MoeConfig& moe) {
    config_ = MoeConfigFor(dense_, moe).value();
    partition_ =
        IndependentRandom(dense_.num_layers, dense_.intermediate_size, moe.num_experts, kSeed);
    parameters_ = BuildMoe(dense_, dense_parameters_, config_, partition_, kSeed);
  }
  at::Tensor DenseView(const std::string& name) {
    return model::View(dense_parameters_, model::ParameterLayout(dense_).Find(name));
  }
  at::Tensor MoeView(const std::string& name) {
    return model::View(parameters_, model::ParameterLayout(config_).Find(name));
  }

  const artefacts::ModelConfig dense_ = Dense();
  const at::Tensor dense_parameters_ =
      RandomVector(model::ParameterLayout(dense_).arena_numel(), 0);
  artefacts::ModelConfig config_;
  Partition partition_;
  at::Tensor parameters_;
};

TEST_F(BuildMoeTest, SumOfAllExperts_IsTheDenseFfn) {
  Build(Moe(16, 4));
  const at::Tensor x_Td = RandomVector(7 * 32, 1).view({7, 32});
  for (int64_t i = 0; i < dense_.num_layers; ++i) {
    const std::string layer = "layers." + std::to_string(i) + ".";
    const at::Tensor expected = Ffn(x_Td, DenseView(layer + "gate_up"), DenseView(layer + "down"));
    at::Tensor sum = at::zeros({7, 32}, at::kFloat);
    for (int64_t e = 0; e < 16; ++e) {
      sum += Ffn(x_Td, MoeView(layer + "experts.gate_up").select(0, e),
                 MoeView(layer + "experts.down").select(0, e));
    }
    const double error = sum.sub(expected).abs().max().item<double>();
    EXPECT_LT(error, 1e-5 * expected.abs().max().item<double>()) << "layer " << i;
  }
}

TEST_F(BuildMoeTest, SharedExpertAndDenseLayers_KeepTheSumAndTheDenseFfn) {
  artefacts::MoeConfig moe = Moe(10, 2);
  moe.shared_width = 16;
  moe.dense_layers = {1};
  moe.learn_scale = true;
  config_ = MoeConfigFor(dense_, moe).value();
  EXPECT_EQ(config_.moe.expert_width, 8);
  partition_.layers.resize(3);
  for (const int64_t layer : {0, 2}) {
    LayerPartition& split = partition_.layers[layer];
    split = IndependentRandomLayer(layer, 80, 10, kSeed);
    for (int64_t neuron = 80; neuron < 96; ++neuron) split.shared.push_back(neuron);
  }
  parameters_ = BuildMoe(dense_, dense_parameters_, config_, partition_, kSeed);
  EXPECT_TRUE(at::equal(MoeView("layers.1.gate_up"), DenseView("layers.1.gate_up")));
  EXPECT_TRUE(at::equal(MoeView("layers.1.down"), DenseView("layers.1.down")));
  EXPECT_EQ(MoeView("layers.2.scale").item<float>(), 4.0f);

  const at::Tensor x_Td = RandomVector(7 * 32, 1).view({7, 32});
  const at::Tensor expected = Ffn(x_Td, DenseView("layers.2.gate_up"), DenseView("layers.2.down"));
  at::Tensor sum = Ffn(x_Td, MoeView("layers.2.shared.gate_up"), MoeView("layers.2.shared.down"));
  for (int64_t e = 0; e < 10; ++e) {
    sum += Ffn(x_Td, MoeView("layers.2.experts.gate_up").select(0, e),
               MoeView("layers.2.experts.down").select(0, e));
  }
  EXPECT_LT(sum.sub(expected).abs().max().item<double>(),
            1e-5 * expected.abs().max().item<double>());
}

TEST_F(BuildMoeTest, Experts_HoldTheirNeuronsInAscendingOrder) {
  Build(Moe(8, 2));
  const std::vector<int64_t>& neurons = partition_.layers[1].experts[3];
  const at::Tensor gate_up = MoeView("layers.1.experts.gate_up").select(0, 3);
  const at::Tensor down = MoeView("layers.1.experts.down").select(0, 3);
  for (int64_t row = 0; row < 12; ++row) {
    EXPECT_TRUE(at::equal(gate_up[row], DenseView("layers.1.gate_up")[neurons[row]]));
    EXPECT_TRUE(at::equal(gate_up[12 + row], DenseView("layers.1.gate_up")[96 + neurons[row]]));
    EXPECT_TRUE(at::equal(down.select(1, row), DenseView("layers.1.down").select(1, neurons[row])));
  }
}

TEST_F(BuildMoeTest, EverythingButTheFfn_IsCopied) {
  Build(Moe(16, 4));
  for (const char* name : {"embed", "layers.2.attn_norm", "layers.0.qkv", "layers.1.attn_out",
                           "layers.2.ffn_norm", "norm"}) {
    EXPECT_TRUE(at::equal(MoeView(name), DenseView(name))) << name;
  }
}

TEST_F(BuildMoeTest, Gate_IsNormalWithStddev002AndNoiseZero) {
  Build(Moe(16, 4));
  double sum = 0, sum_squared = 0;
  int64_t count = 0;
  for (int64_t i = 0; i < dense_.num_layers; ++i) {
    for (const char* part : {"router.0", "router.2"}) {
      const at::Tensor values = MoeView("layers." + std::to_string(i) + "." + part);
      sum += values.sum().item<double>();
      sum_squared += values.mul(values).sum().item<double>();
      count += values.numel();
    }
    EXPECT_EQ(MoeView("layers." + std::to_string(i) + ".noise").abs().max().item<float>(), 0.0f);
  }
  EXPECT_NEAR(sum / count, 0.0, 4 * 0.02 / std::sqrt(count));
  EXPECT_NEAR(std::sqrt(sum_squared / count), 0.02, 0.02 * 4 / std::sqrt(2.0 * count));
  EXPECT_FALSE(at::equal(MoeView("layers.0.router.0"), MoeView("layers.1.router.0")));
}

TEST_F(BuildMoeTest, SameSeed_GivesTheSameBits) {
  Build(Moe(16, 4));
  const at::Tensor first = parameters_;
  Build(Moe(16, 4));
  EXPECT_TRUE(at::equal(first, parameters_));
}

TEST_F(BuildMoeTest, LinearGate_HasOneMatrix) {
  artefacts::MoeConfig moe = Moe(4, 2);
  moe.gate_network = "linear";
  Build(moe);
  EXPECT_FALSE(model::ParameterLayout(config_).Has("layers.0.router.2"));
  EXPECT_GT(MoeView("layers.0.router.0").abs().max().item<float>(), 0.0f);
}

// The dense model as a Hugging Face folder, built layer by layer as a construct job does.
class StreamedBuildTest : public BuildMoeTest {
 protected:
  // The parameters of `to` one after the other, in the type of the folder.
  absl::StatusOr<std::vector<uint8_t>> Stream(artefacts::DType dtype,
                                              const artefacts::ModelConfig& to,
                                              const BuildOptions& options, const PlanLayer& plan) {
    EXPECT_TRUE(model::SaveHfFolder(dense_, dense_parameters_, dtype, folder_.path(),
                                    /*max_shard_bytes=*/20'000)
                    .ok());
    const auto source = model::OpenWeights(folder_.path());
    EXPECT_TRUE(source.ok()) << ToString(source.status());
    EXPECT_EQ((*source)->dtype(), dtype);
    std::vector<uint8_t> bytes;
    const absl::Status built = construction::Build(
        **source, to, options, plan,
        [&](const model::Parameter&, kernels::Buffer<uint8_t>& data, uint64_t size) {
          bytes.insert(bytes.end(), data.data(), data.data() + size);
          return absl::OkStatus();
        });
    if (!built.ok()) return built;
    return bytes;
  }
  PlanLayer OfPartition() {
    return [this](int64_t layer) -> absl::StatusOr<LayerPlan> {
      layers_planned_.push_back(layer);
      return LayerPlan{.partition = partition_.layers[layer]};
    };
  }

  TemporaryFolder folder_;
  std::vector<int64_t> layers_planned_;
};

TEST_F(StreamedBuildTest, OfABf16Folder_GivesTheBitsOfTheModelBuiltInMemoryAndRounded) {
  Build(Moe(16, 4));
  const auto bytes = Stream(artefacts::DType::kBf16, config_, {.seed = kSeed}, OfPartition());
  ASSERT_TRUE(bytes.ok()) << ToString(bytes.status());
  const model::ParameterLayout layout(config_);
  std::vector<uint8_t> expected;
  for (const model::Parameter& parameter : layout.parameters()) {
    std::vector<uint8_t> rounded(2 * parameter.numel);
    model::EncodeFloats(artefacts::DType::kBf16,
                        parameters_.const_data_ptr<float>() + parameter.offset, parameter.numel,
                        rounded.data());
    expected.insert(expected.end(), rounded.begin(), rounded.end());
  }
  EXPECT_EQ(*bytes, expected);
  EXPECT_EQ(layers_planned_, (std::vector<int64_t>{0, 1, 2})) << "once each, in order";
}

TEST_F(StreamedBuildTest, ErrorsOfThePlan_EndIt) {
  Build(Moe(16, 4));
  const auto bytes =
      Stream(artefacts::DType::kF32, config_, {}, [](int64_t layer) -> absl::StatusOr<LayerPlan> {
        return Cancelled("stopped in layer {}", layer);
      });
  EXPECT_EQ(ToString(bytes.status()), "CANCELLED: stopped in layer 0");
}

TEST_F(StreamedBuildTest, ReplacedValueBeyondTheType_IsNamed) {
  Build(Moe(16, 4));
  const auto bytes =
      Stream(artefacts::DType::kF16, config_, {}, [&](int64_t layer) -> absl::StatusOr<LayerPlan> {
        return LayerPlan{.partition = partition_.layers[layer],
                         .replaced = {{"router.0", at::full({16, 32}, 7e4f)}}};
      });
  EXPECT_THAT(ToString(bytes.status()), AllOf(HasSubstr("layers.0.router.0[0] = 70000"),
                                              HasSubstr("F16"), HasSubstr("BF16 or F32")));
}

TEST_F(StreamedBuildTest, SmallerWidth_PrunesToTheOnlyExpert) {
  artefacts::ModelConfig pruned = dense_;
  pruned.intermediate_size = 2;
  const auto parameters =
      BuildArena(*model::ArenaWeights(dense_, dense_parameters_), pruned, {},
                 [](int64_t) -> absl::StatusOr<LayerPlan> {
                   return LayerPlan{.partition = {.experts = {{5, 90}}, .shared = {}}};
                 });
  ASSERT_TRUE(parameters.ok()) << ToString(parameters.status());
  const model::ParameterLayout layout(pruned);
  const at::Tensor down = model::View(*parameters, layout.Find("layers.1.down"));
  EXPECT_TRUE(at::equal(down.select(1, 1), DenseView("layers.1.down").select(1, 90)));
  const at::Tensor gate_up = model::View(*parameters, layout.Find("layers.1.gate_up"));
  EXPECT_TRUE(at::equal(gate_up[3], DenseView("layers.1.gate_up")[96 + 90]));
}

TEST(MoeConfigForTest, NumbersThatDoNotFit_AreRefusedWithTheFix) {
  EXPECT_THAT(ToString(MoeConfigFor(Dense(), Moe(7, 2)).status()),
              AllOf(HasSubstr("INVALID_ARGUMENT"), HasSubstr("num_experts=7"), HasSubstr("96"),
                    HasSubstr("8, 12, 16")));
  EXPECT_THAT(ToString(MoeConfigFor(Dense(), Moe(8, 9)).status()),
              AllOf(HasSubstr("top_k=9"), HasSubstr("num_experts=8")));
  EXPECT_FALSE(MoeConfigFor(Dense(), Moe(8, 0)).ok());
  artefacts::MoeConfig moe = Moe(8, 2);
  moe.gate_network = "conv";
  EXPECT_THAT(ToString(MoeConfigFor(Dense(), moe).status()), HasSubstr("conv"));
  moe = Moe(8, 2);
  moe.score_scale_factor = 0;
  EXPECT_THAT(ToString(MoeConfigFor(Dense(), moe).status()), HasSubstr("score_scale_factor=0"));
}

TEST(MoeConfigForTest, MixtureAlready_IsRefused) {
  const artefacts::ModelConfig mixture = MoeConfigFor(Dense(), Moe(8, 2)).value();
  EXPECT_EQ(mixture.moe.expert_width, 12);
  EXPECT_THAT(ToString(MoeConfigFor(mixture, Moe(8, 2)).status()),
              HasSubstr("mixture of 8 experts already"));
}

}  // namespace
}  // namespace moe::construction
