#include "worker/model/gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <set>

#include "tests/unit/worker/model/golden_layer.h"
#include "worker/model/switch_gate.h"

namespace moe::model {
namespace {

using ::testing::ElementsAre;
using testing::GoldenLayer;
using testing::kExperts;
using testing::kHidden;
using testing::kTokens;
using ::testing::Pointwise;

MATCHER_P(IsNearBy, tolerance, "") {
  return std::abs(std::get<0>(arg) - std::get<1>(arg)) <= tolerance;
}

std::vector<double> FirstScores(const GateResult& gate) {
  std::vector<double> scores;
  for (int64_t t = 0; t < kTokens; ++t) scores.push_back(gate.scores[2 * t]);
  return scores;
}

class Gate : public ::testing::Test {
 protected:
  GateResult Run(const GateWeights& weights, const float* draws,
                 LoadEstimator estimator = LoadEstimator::kCorrect) {
    GateResult result;
    GateForward(layer_.config, estimator, weights, layer_.x.data(), kTokens, kHidden, draws,
                result);
    return result;
  }

  GoldenLayer layer_;
};

TEST_F(Gate, MlpWithoutNoise_GivesGoldenNumbers) {
  const GateResult gate = Run(layer_.MlpGate(), nullptr);
  EXPECT_THAT(std::vector<float>(gate.logits.begin(), gate.logits.begin() + 4),
              Pointwise(IsNearBy(1e-6), {.9773767, -.9518130, .8162621, -.5863881}));
  EXPECT_THAT(gate.indices, ElementsAre(0, 2, 1, 3, 0, 2, 1, 2, 3, 1, 2, 0));
  EXPECT_THAT(FirstScores(gate), Pointwise(IsNearBy(1e-6), {.5401917, .5871897, .5471349, .5347545,
                                                            .5192384, .5190688}));
  EXPECT_THAT(gate.load, ElementsAre(3, 3, 4, 2));
  EXPECT_THAT(gate.routed, ElementsAre(3, 3, 4, 2));
  EXPECT_THAT(gate.importance,
              Pointwise(IsNearBy(1e-6), {1.5682579, 1.6027059, 1.8969874, .9320486}));
  EXPECT_NEAR(gate.balance_loss, .00147463, 1e-8);
}

TEST_F(Gate, MlpWithNoise_GivesGoldenNumbersOfBothLoadEstimators) {
  const GateResult correct = Run(layer_.MlpGate(), layer_.draws.data());
  EXPECT_THAT(correct.indices, ElementsAre(0, 3, 3, 0, 2, 0, 1, 2, 1, 0, 0, 3));
  EXPECT_THAT(FirstScores(correct), Pointwise(IsNearBy(1e-6), {.9440929, .9337066, .8629868,
                                                               .6034895, .7108055, .7369738}));
  EXPECT_THAT(correct.importance,
              Pointwise(IsNearBy(1e-6), {2.1735677, 1.3142950, 1.2594974, 1.2526397}));
  EXPECT_THAT(correct.load,
              Pointwise(IsNearBy(2e-6), {3.4031603, 2.5525305, 3.7832155, 3.3423635}));
  EXPECT_NEAR(correct.balance_loss, .00114926, 1e-8);

  const GateResult compat = Run(layer_.MlpGate(), layer_.draws.data(), LoadEstimator::kCompat);
  EXPECT_EQ(compat.indices, correct.indices);
  EXPECT_THAT(compat.load, Pointwise(IsNearBy(2e-6), {4.0680685, 3.1982192, 3.8735108, 3.5483956}));
  EXPECT_NEAR(compat.balance_loss, .00100765, 1e-8);
}

TEST_F(Gate, LinearWithoutNoise_GivesGoldenNumbers) {
  const GateResult gate = Run(layer_.LinearGate(), nullptr);
  EXPECT_THAT(gate.indices, ElementsAre(2, 0, 3, 1, 2, 0, 3, 1, 1, 2, 0, 2));
  EXPECT_THAT(FirstScores(gate), Pointwise(IsNearBy(1e-6), {.6447143, .6189944, .7522673, .7404809,
                                                            .5748540, .7183551}));
  EXPECT_THAT(gate.importance,
              Pointwise(IsNearBy(1e-6), {1.3213734, 1.2153787, 2.1037724, 1.3594753}));
  EXPECT_NEAR(gate.balance_loss, .00147734, 1e-8);
}

TEST_F(Gate, LinearWithNoise_GivesGoldenNumbersOfBothLoadEstimators) {
  const GateResult correct = Run(layer_.LinearGate(), layer_.draws.data());
  EXPECT_THAT(correct.indices, ElementsAre(0, 2, 3, 1, 2, 0, 1, 3, 1, 2, 0, 3));
  EXPECT_THAT(correct.importance,
              Pointwise(IsNearBy(1e-6), {1.8397042, 1.6125210, 1.1870045, 1.3607701}));
  EXPECT_THAT(correct.load,
              Pointwise(IsNearBy(2e-6), {3.9443943, 2.7072184, 3.3100478, 2.7817573}));
  EXPECT_NEAR(correct.balance_loss, .00068647, 1e-8);

  const GateResult compat = Run(layer_.LinearGate(), layer_.draws.data(), LoadEstimator::kCompat);
  EXPECT_THAT(compat.load, Pointwise(IsNearBy(2e-6), {4.3689889, 3.8268373, 3.3834848, 3.5826220}));
  EXPECT_NEAR(compat.balance_loss, .00048998, 1e-8);
}

struct BalanceGolden {
  LoadEstimator estimator;
  std::vector<double> router_0, router_2, noise, dx_row_0;
};

// The gradient of the balance loss alone.
TEST_F(Gate, BalanceLoss_GivesGoldenGradientsOfBothLoadEstimators) {
  const std::vector<BalanceGolden> goldens = {
      {LoadEstimator::kCompat,
       {-.0002361, -.0001881, -.0000516, .0001091, -.0001032, -.0000355, .0000488, .0001102,
        .0003716, .0001540, -.0001360, -.0003620, -.0000630, -.0001841, -.0002187, -.0001504},
       {.0000792, -.0003162, .0005414, -.0005345, .0007176, -.0005173, .0001541, .0001477,
        -.0001601, .0002745, -.0003112, .0003377, -.0006367, .0005589, -.0003843, .0000491},
       {.0004577, .0002249, -.0001138, -.0003989, .0002790, -.0000542, -.0003619, -.0004994,
        .0000915, -.0000989, -.0002428, -.0002725, -.0002807, -.0000982, .0001305, .0002978},
       {.0000504, .0000738, .0000625, .0000218}},
      {LoadEstimator::kCorrect,
       {-.0001654, -.0000037, .0001597, .0002480, .0000462, .0000660, .0000548, .0000178, .0004072,
        .0001633, -.0001574, -.0004041, -.0002338, -.0003010, -.0002266, -.0000457},
       {.0005393, -.0007469, .0008598, -.0007702, .0003595, -.0001030, -.0002997, .0005908,
        -.0002115, .0002994, -.0003159, .0003713, -.0006873, .0005506, -.0002443, -.0001919},
       {.0004607, .0002980, -.0000048, -.0003054, .0001820, -.0001020, -.0003379, -.0004150,
        .0000750, -.0001495, -.0003037, -.0003151, -.0002010, -.0000591, .0001106, .0002283},
       {.0000681, .0001087, .0000981, .0000414}}};
  for (const BalanceGolden& golden : goldens) {
    const GateResult gate = Run(layer_.MlpGate(), layer_.draws.data(), golden.estimator);
    std::vector<float> router_0(16, 0), router_2(16, 0), noise(16, 0), dx(kTokens * kHidden, 0);
    const std::vector<float> no_gradient(kTokens * 2, 0);
    GateBackward(layer_.config, golden.estimator, layer_.MlpGate(), layer_.x.data(), kHidden, gate,
                 no_gradient.data(), /*balance_scale=*/1.0,
                 {router_0.data(), router_2.data(), noise.data()}, dx.data());
    EXPECT_THAT(router_0, Pointwise(IsNearBy(1e-7), golden.router_0));
    EXPECT_THAT(router_2, Pointwise(IsNearBy(1e-7), golden.router_2));
    EXPECT_THAT(noise, Pointwise(IsNearBy(1e-7), golden.noise));
    dx.resize(kHidden);
    EXPECT_THAT(dx, Pointwise(IsNearBy(1e-7), golden.dx_row_0));
  }
}

TEST_F(Gate, AllLogitsEqual_TakesTheLowestExperts) {
  std::fill(layer_.router_0.begin(), layer_.router_0.end(), 0.0f);
  const GateResult gate = Run(layer_.LinearGate(), nullptr);
  EXPECT_THAT(gate.routed, ElementsAre(kTokens, kTokens, 0, 0));
  EXPECT_FLOAT_EQ(gate.scores[0], 0.5f);
}

class Switch : public Gate {
 protected:
  Switch() {
    layer_.config.gate = "switch";
    layer_.config.top_k = 1;
  }
};

TEST_F(Switch, WithoutNoise_GivesGoldenNumbers) {
  const GateResult gate = Run(layer_.MlpGate(), nullptr);
  EXPECT_THAT(gate.indices, ElementsAre(0, 1, 0, 1, 3, 2));
  EXPECT_THAT(gate.scores, Pointwise(IsNearBy(1e-6),
                                     {.9773767, .8503311, .6050404, .1113300, .1387456, .3875729}));
  EXPECT_THAT(gate.load, Pointwise(IsNearBy(1e-9), {2.0 / 6, 2.0 / 6, 1.0 / 6, 1.0 / 6}));
  EXPECT_THAT(gate.importance, Pointwise(IsNearBy(1e-6), {.2843508, .2299790, .2711302, .2145399}));
  EXPECT_NEAR(gate.balance_loss, .01009553, 1e-8);
}

TEST_F(Switch, ExpertsAboveTheirCapacity_KeepTheHighestScores) {
  layer_.config.capacity_factor = 0.7;  // of 6 / 4 tokens: 1
  const GateResult gate = Run(layer_.MlpGate(), nullptr);
  EXPECT_THAT(gate.indices, ElementsAre(0, 1, kNoExpert, kNoExpert, 3, 2));
  EXPECT_THAT(gate.scores,
              Pointwise(IsNearBy(1e-6), {.9773767, .8503311, 0.0, 0.0, .1387456, .3875729}));
  // What the gate wanted is what the balance loss has to see.
  EXPECT_THAT(gate.routed, ElementsAre(2, 2, 1, 1));
  EXPECT_NEAR(gate.balance_loss, .01009553, 1e-8);
}

TEST(SwitchCapacity, IsAShareOfTheTokensButAtLeastOne) {
  artefacts::MoeConfig config = {.num_experts = 4, .top_k = 1, .gate = "switch"};
  EXPECT_EQ(SwitchCapacity(config, 10), 10) << "no limit";
  config.capacity_factor = 1.25;
  EXPECT_EQ(SwitchCapacity(config, 16), 5);
  EXPECT_EQ(SwitchCapacity(config, 15), 4);
  EXPECT_EQ(SwitchCapacity(config, 2), 1);
  config.capacity_factor = 100;
  EXPECT_EQ(SwitchCapacity(config, 16), 16);
}

TEST_F(Switch, Noise_ChoosesExpertsAsOftenAsSoftmaxDoes) {
  // The argmax of logits with Gumbel noise is a draw from their softmax.
  constexpr int64_t kDraws = 20'000;
  const std::vector<float> router = {0.0f, 0.5f, 1.0f, -1.0f};
  const std::vector<float> ones(kDraws, 1.0f);
  std::vector<float> draws(kDraws * 4);
  DrawGateNoise({.seed = 5}, 0, 1, kDraws, 4, draws.data());
  GateResult gate;
  GateForward(layer_.config, LoadEstimator::kCorrect, {router.data(), nullptr, nullptr},
              ones.data(), kDraws, 1, draws.data(), gate);
  EXPECT_THAT(gate.load, Pointwise(IsNearBy(0.015), gate.importance));
}

// A sample's noise depends on the sample, not on the micro-batch it comes in.
TEST(DrawGateNoise, SplitBatch_DrawsTheSame) {
  constexpr int64_t kSequence = 3, kNumExperts = 6;
  std::vector<float> whole(4 * kSequence * kNumExperts), half(2 * kSequence * kNumExperts);
  DrawGateNoise({.seed = 9, .first_sample = 100}, /*layer=*/2, 4, kSequence, kNumExperts,
                whole.data());
  DrawGateNoise({.seed = 9, .first_sample = 102}, /*layer=*/2, 2, kSequence, kNumExperts,
                half.data());
  EXPECT_TRUE(std::equal(half.begin(), half.end(), whole.begin() + half.size()));
  EXPECT_EQ(std::set<float>(whole.begin(), whole.end()).size(), whole.size()) << "draws repeat";

  std::vector<float> other_layer(half.size());
  DrawGateNoise({.seed = 9, .first_sample = 102}, /*layer=*/3, 2, kSequence, kNumExperts,
                other_layer.data());
  EXPECT_NE(other_layer, half);
}

}  // namespace
}  // namespace moe::model
