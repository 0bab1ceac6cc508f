#include "worker/construction/calibrate.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "worker/model/arena.h"
#include "worker/model/model.h"
#include "worker/model/weight_source.h"

namespace moe::construction {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kExperts = 6, kWidth = 8;  // of 48 neurons

artefacts::ModelConfig Dense() {
  artefacts::ModelConfig config;
  config.vocab_size = 61;
  config.hidden_size = 32;
  config.intermediate_size = kExperts * kWidth;
  config.num_layers = 4;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 8;
  config.context_length = 64;
  config.tie_word_embeddings = true;
  return config;
}

// Every matrix keeps the size of its input; neurons differ in size, as trained ones do.
at::Tensor DenseParameters(const artefacts::ModelConfig& config) {
  at::manual_seed(5);
  const model::ParameterLayout layout(config);
  at::Tensor parameters = at::zeros({layout.arena_numel()}, at::kFloat);
  for (const model::Parameter& parameter : layout.parameters()) {
    at::Tensor values = at::randn(parameter.shape, at::kFloat);
    if (parameter.shape.size() == 1) {
      values.mul_(0.1).add_(1.0);
    } else {
      values.div_(std::sqrt(static_cast<double>(parameter.shape.back())));
    }
    if (parameter.name.ends_with(".down")) {
      for (int64_t i = 0; i < values.size(1); ++i) values.select(1, i).mul_(4.0 / (1.0 + i % 8));
    }
    model::View(parameters, parameter).copy_(values);
  }
  return parameters;
}

std::vector<Neurons> InTurns(const Neurons& neurons, int64_t num_experts) {
  std::vector<Neurons> experts(num_experts);
  for (size_t i = 0; i < neurons.size(); ++i) experts[i % experts.size()].push_back(neurons[i]);
  return experts;
}

CalibrationOptions Options(int64_t num_dense_layers = 0) {
  return {.fit = {.top_k = 2, .fit_experts = false},
          .gate_network = "linear",
          .num_dense_layers = num_dense_layers};
}

class CalibrateTest : public ::testing::Test {
 protected:
  // The neurons that predict the others best are shared, the others dealt in turns.
  Partition Cut(int64_t shared_experts) const {
    Partition partition;
    for (const Neurons& shared :
         NeuronsToShare(dense_, dense_parameters_, tokens_BS_, shared_experts * kWidth)) {
      partition.layers.push_back({.experts = InTurns(NeuronsBut(shared, dense_.intermediate_size),
                                                     kExperts - shared_experts),
                                  .shared = shared});
    }
    return partition;
  }
  CalibratedModel Run(int64_t shared_experts, const CalibrationOptions& options) {
    return Calibrate(dense_, dense_parameters_, options, Cut(shared_experts), tokens_BS_,
                     [](int64_t, int64_t) { return true; });
  }
  at::Tensor Build(const CalibratedModel& model) const {
    return BuildArena(
               *model::ArenaWeights(dense_, dense_parameters_), model.config, {},
               [&](int64_t layer) -> absl::StatusOr<LayerPlan> { return model.plans[layer]; })
        .value();
  }
  // By the model's own fast path.
  static double LossOf(const artefacts::ModelConfig& config, const at::Tensor& parameters,
                       const at::Tensor& tokens_BS) {
    model::Model model(config, {.compute = model::ComputeType::kFp32});
    model.SetParameters(parameters);
    return model.Evaluate(tokens_BS).MeanLoss();
  }
  // What the dense model itself would write, so that its loss is the least there is.
  at::Tensor GreedyText() const {
    model::Model model(dense_, {.compute = model::ComputeType::kFp32});
    model.SetParameters(dense_parameters_);
    at::Tensor text_BS = tokens_BS_.clone();
    for (int64_t s = 1; s < text_BS.size(1); ++s) {
      const at::Tensor logits = model.Logits(text_BS.narrow(1, 0, s).contiguous());
      text_BS.select(1, s).copy_(logits.select(1, s - 1).argmax(-1));
    }
    return text_BS;
  }
  static double Error(const CalibratedModel& model) {
    double sum = 0;
    for (const CalibratedLayer& layer : model.layers) sum += layer.relative_error;
    return sum;
  }

  artefacts::ModelConfig dense_ = Dense();
  at::Tensor dense_parameters_ = DenseParameters(dense_);
  at::Tensor tokens_BS_ = at::randint(61, {8, 64}, at::kLong);
};

// The losses that calibration reports are those of the model that it returns: everything that was
// fitted is in the right place of the arena.
TEST_F(CalibrateTest, ReportedLosses_AreThoseOfTheModels) {
  for (const bool mean_vector : {false, true}) {
    for (const bool learn_scale : {false, true}) {
      for (const bool fit_experts : {false, true}) {
        CalibrationOptions options = Options(/*num_dense_layers=*/1);
        options.fit.mean_vector = mean_vector;
        options.fit.fit_experts = fit_experts;
        options.learn_scale = learn_scale;
        const CalibratedModel model = Run(/*shared_experts=*/2, options);
        EXPECT_NEAR(model.loss, LossOf(model.config, Build(model), tokens_BS_), 1e-4);
        EXPECT_NEAR(model.dense_loss, LossOf(dense_, dense_parameters_, tokens_BS_), 1e-5);
        EXPECT_EQ(model.config.num_moe_layers(), 3);
      }
    }
  }
}

TEST_F(CalibrateTest, MlpGate_RoutesLikeTheLinearOne) {
  CalibrationOptions options = Options();
  options.gate_network = "mlp";
  const CalibratedModel model = Run(1, options);
  EXPECT_NEAR(model.loss, LossOf(model.config, Build(model), tokens_BS_), 2e-2);
}

TEST_F(CalibrateTest, EveryPart_BringsTheLayersNearerToTheDense) {
  CalibrationOptions plain = Options();
  plain.fit.compensate = false;
  CalibrationOptions with_mean = plain, with_experts = Options();
  with_mean.fit.mean_vector = true;
  with_experts.fit.fit_experts = true;
  const double without_shared = Error(Run(0, Options()));
  const double shared = Error(Run(2, plain));
  const double mean = Error(Run(2, with_mean));
  const double compensated = Error(Run(2, Options()));
  const double fitted = Error(Run(2, with_experts));
  EXPECT_LT(shared, 0.95 * without_shared);
  EXPECT_LT(mean, shared);
  EXPECT_LT(compensated, 0.95 * shared);
  EXPECT_LT(fitted, 0.95 * compensated);
}

TEST_F(CalibrateTest, TheMostSensitiveLayer_StaysDense) {
  dense_.tie_word_embeddings = false;
  dense_parameters_ = DenseParameters(dense_);
  const model::ParameterLayout layout(dense_);
  // Sure of what it writes, and because of layer 2.
  model::View(dense_parameters_, layout.Find("lm_head")).mul_(4);
  for (const char* idle : {"layers.0.down", "layers.1.down", "layers.3.down"}) {
    model::View(dense_parameters_, layout.Find(idle)).mul_(0.01);
  }
  tokens_BS_ = GreedyText();
  const CalibratedModel model = Run(1, Options(/*num_dense_layers=*/1));
  EXPECT_THAT(model.config.moe.dense_layers, ElementsAre(2));
  EXPECT_TRUE(model.layers[2].stays_dense);
  for (const int64_t other : {0, 1, 3}) {
    EXPECT_LT(model.layers[other].sensitivity, model.layers[2].sensitivity) << other;
  }
}

TEST_F(CalibrateTest, LayersThatMustStayDense_DoAndCountAsChosen) {
  CalibrationOptions options = Options(/*num_dense_layers=*/2);
  options.dense_layers = {3};
  const CalibratedModel model = Run(1, options);
  EXPECT_THAT(model.config.moe.dense_layers, SizeIs(2));
  EXPECT_EQ(model.config.moe.dense_layers.back(), 3);
  EXPECT_EQ(model.layers[3].sensitivity, 0) << "there was nothing to measure";
}

TEST_F(CalibrateTest, Stopped_ReturnsNoPlans) {
  int64_t calls = 0;
  const CalibratedModel model =
      Calibrate(dense_, dense_parameters_, Options(/*num_dense_layers=*/1), Cut(1), tokens_BS_,
                [&](int64_t, int64_t) { return ++calls < 2; });
  EXPECT_THAT(model.plans, IsEmpty());
  EXPECT_EQ(calls, 2);
}

TEST(FitLayer, GateFindsTheExpertsThatDoTheWork) {
  at::manual_seed(3);
  const int64_t T = 400;
  at::Tensor x_Td = at::randn({T, 6}, at::kFloat), h_TI = at::randn({T, 8}, at::kFloat);
  for (int64_t t = 0; t < T; ++t) {
    const bool first = t % 2 == 0;
    x_Td[t][0].fill_(first ? 2.0 : -2.0);
    h_TI[t].narrow(0, first ? 4 : 0, 4).mul_(0.01);
  }
  const FittedLayer layer =
      FitLayer({.top_k = 1}, {.x_Td = x_Td, .h_TI = h_TI, .down_dI = at::randn({6, 8}, at::kFloat)},
               {.experts = {{0, 1, 2, 3}, {4, 5, 6, 7}}, .shared = {}});
  EXPECT_LT(layer.relative_error, 1e-3);
  EXPECT_NEAR(layer.scale, 1.0, 1e-2);
}

TEST(NumDenseLayers, SpendsWhatTheMixturesLeaveOfTheBudget) {
  EXPECT_EQ(NumDenseLayers(0.325, 0.25, 30), 3);
  EXPECT_EQ(NumDenseLayers(0.349, 0.25, 30), 3);
  EXPECT_EQ(NumDenseLayers(0.25, 0.25, 30), 0);
  EXPECT_EQ(NumDenseLayers(0.2, 0.25, 30), 0);
  EXPECT_EQ(NumDenseLayers(1.0, 0.25, 30), 29) << "one is left for the experts";
  EXPECT_EQ(NumDenseLayers(1.0, 1.0, 30), 0) << "nothing to spare";
}

}  // namespace
}  // namespace moe::construction
