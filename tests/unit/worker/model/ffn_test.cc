#include "worker/model/ffn.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/worker/model/golden_layer.h"

namespace moe::model {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using testing::GoldenLayer;
using testing::kExperts;
using testing::kHidden;
using testing::kTokens;
using testing::kWidth;
using ::testing::Pointwise;
using testing::Sines;

MATCHER_P(IsNearBy, tolerance, "") {
  return std::abs(std::get<0>(arg) - std::get<1>(arg)) <= tolerance;
}

class MoeFfn : public ::testing::Test {
 protected:
  std::vector<float> Forward(const float* draws) {
    std::vector<float> y(kTokens * kHidden, 0);
    MoeFfnForward<float>(layer_.config, LoadEstimator::kCorrect, Weights(), layer_.x.data(),
                         layer_.x.data(), draws, /*residual_Td=*/nullptr, kTokens, kHidden, saved_,
                         scratch_, y.data());
    return y;
  }

  // The gradients of sum(y * dy), without the balance loss.
  void Backward(const std::vector<float>& dy) {
    MoeFfnBackward<float>(layer_.config, LoadEstimator::kCorrect, Weights(), layer_.x.data(),
                          layer_.x.data(), dy.data(), /*balance_scale=*/0.0, kTokens, kHidden,
                          saved_, scratch_,
                          {.gate_up = dgate_up_.data(),
                           .down = ddown_.data(),
                           .gate = {drouter_0_.data(), drouter_2_.data(), dnoise_.data()}},
                          dx_.data());
  }

  FfnWeights<float> Weights() const {
    return {.gate_up = layer_.gate_up.data(),
            .down = layer_.down.data(),
            .gate = layer_.MlpGate(),
            .scale = static_cast<float>(layer_.config.score_scale_factor)};
  }

  static std::vector<float> Slice(const std::vector<float>& v, int64_t begin, int64_t count) {
    return {v.begin() + begin, v.begin() + begin + count};
  }

  GoldenLayer layer_;
  FfnSaved<float> saved_;
  FfnScratch<float> scratch_;
  std::vector<float> dgate_up_ = std::vector<float>(kExperts * 2 * kWidth * kHidden, 0);
  std::vector<float> ddown_ = std::vector<float>(kExperts * kHidden * kWidth, 0);
  std::vector<float> drouter_0_ = std::vector<float>(16, 0);
  std::vector<float> drouter_2_ = drouter_0_, dnoise_ = drouter_0_;
  std::vector<float> dx_ = std::vector<float>(kTokens * kHidden, 0);
};

TEST_F(MoeFfn, WithoutNoise_GivesGoldenOutput) {
  EXPECT_THAT(Forward(nullptr),
              Pointwise(IsNearBy(5e-6),
                        {2.7016291, 4.5307483,  -1.1614725, -4.9255728, -.5725917,  -3.5372221,
                         -.6298311, 3.3231208,  1.4903453,  .6002435,   -1.2863018, -1.0375018,
                         1.8607497, -1.8725346, -2.4972884, 1.0236207,  .4497397,   -.3706944,
                         -.5757515, .1749767,   .6938222,   -1.0452017, -1.0491220, .6885691}));
}

TEST_F(MoeFfn, WithNoise_GivesGoldenOutputAndGradients) {
  const std::vector<float> y = Forward(layer_.draws.data());
  EXPECT_THAT(Slice(y, 0, 4),
              Pointwise(IsNearBy(1e-5), {4.0301895, 7.8652892, -1.3565080, -8.3264122}));
  const std::vector<float> dy = Sines(kTokens * kHidden, 0.15);
  double loss = 0;
  for (int64_t i = 0; i < kTokens * kHidden; ++i) loss += y[i] * dy[i];
  EXPECT_NEAR(loss, -5.3551536, 2e-5);

  Backward(dy);
  EXPECT_THAT(drouter_0_, Pointwise(IsNearBy(2e-6),
                                    {-.2666087, -.5301920, -.5444176, -.3025951, -.2731413,
                                     -.1891383, -.0161806, .1643871, .2079447, .1135817, -.0342006,
                                     -.1658977, .4415394, .2540177, -.0529725, -.3350489}));
  EXPECT_THAT(drouter_2_, Pointwise(IsNearBy(5e-6),
                                    {-1.7112463, 1.9305997, -1.7755039, 1.5641171, .3437231,
                                     -.2318491, -.0066331, .2229800, .2902360, -.4888022, .5417054,
                                     -.5541830, 1.0772871, -1.2099482, 1.2404313, -1.2329137}));
  EXPECT_THAT(dnoise_, Pointwise(IsNearBy(3e-6),
                                 {-.1320455, -.3062940, -.3364876, -.2084258, .2104649, .0945055,
                                  -.0659013, -.1953137, -.1868862, .1701211, .4471178, .5138280,
                                  -.0109938, .5712256, .8847886, .7822218}));
  EXPECT_THAT(Slice(dx_, 0, 4),
              Pointwise(IsNearBy(5e-6), {-.6213946, -.8740153, -.7155730, -.2205855}));
  EXPECT_THAT(Slice(dgate_up_, 0, 8),
              Pointwise(IsNearBy(5e-6), {1.3931794, .4767147, -.6639565, -1.4923587, -.9046170,
                                         -1.0758049, -.7410249, -.0577294}));
  EXPECT_THAT(Slice(ddown_, 3 * kHidden * kWidth, 8),
              Pointwise(IsNearBy(1e-5), {1.2702312, .2053220, -3.1984828, -.1909464, -6.1629004,
                                         -.4974097, -6.2288094, -.5699335}));
}

TEST_F(MoeFfn, ExpertsWithNoTokensAndAllTokens_GetZeroAndFullGradients) {
  // A linear gate that prefers expert 1, then 3, for every token: bias through a constant input.
  for (int64_t t = 0; t < kTokens; ++t) layer_.x[t * kHidden] = 1.0f;
  std::fill(layer_.router_0.begin(), layer_.router_0.end(), 0.0f);
  layer_.router_0[1 * kHidden] = 2.0f;
  layer_.router_0[3 * kHidden] = 1.0f;
  std::fill(layer_.router_2.begin(), layer_.router_2.end(), 0.0f);
  for (int64_t e = 0; e < kExperts; ++e) layer_.router_2[e * kExperts + e] = 1.0f;

  Forward(nullptr);
  EXPECT_THAT(saved_.gate.routed, ElementsAre(0, kTokens, 0, kTokens));
  Backward(Sines(kTokens * kHidden, 0.15));
  constexpr int64_t kExpertSize = 2 * kWidth * kHidden;
  EXPECT_THAT(Slice(dgate_up_, 0, kExpertSize), Each(0.0f));
  EXPECT_THAT(Slice(dgate_up_, 2 * kExpertSize, kExpertSize), Each(0.0f));
  EXPECT_THAT(Slice(dgate_up_, 1 * kExpertSize, kExpertSize), Each(::testing::Ne(0.0f)));
}

class SwitchFfn : public MoeFfn {
 protected:
  // A gate that sends every token to expert 1, with scores that grow with the token.
  SwitchFfn() {
    layer_.config.gate = "switch";
    layer_.config.top_k = 1;
    for (int64_t t = 0; t < kTokens; ++t) layer_.x[t * kHidden] = 1.0f + 0.1f * t;
    std::fill(layer_.router_0.begin(), layer_.router_0.end(), 0.0f);
    layer_.router_0[1 * kHidden] = 0.5f;
    std::fill(layer_.router_2.begin(), layer_.router_2.end(), 0.0f);
    for (int64_t e = 0; e < kExperts; ++e) layer_.router_2[e * kExperts + e] = 1.0f;
  }

  static constexpr int64_t kExpertSize = 2 * kWidth * kHidden;
};

TEST_F(SwitchFfn, AllTokensToOneExpert_OthersGetZeroGradients) {
  Forward(nullptr);
  EXPECT_THAT(saved_.gate.routed, ElementsAre(0, kTokens, 0, 0));
  EXPECT_EQ(saved_.dispatch.rows(), kTokens);
  Backward(Sines(kTokens * kHidden, 0.15));
  EXPECT_THAT(Slice(dgate_up_, kExpertSize, kExpertSize), Each(::testing::Ne(0.0f)));
  EXPECT_THAT(Slice(dgate_up_, 0, kExpertSize), Each(0.0f));
  EXPECT_THAT(Slice(dgate_up_, 2 * kExpertSize, 2 * kExpertSize), Each(0.0f));
}

TEST_F(SwitchFfn, TokensWithoutRoom_AreLeftOutForwardAndBackward) {
  const std::vector<float> unlimited = Forward(nullptr);
  layer_.config.capacity_factor = 1.4;  // of 6 / 4 tokens: the 2 with the highest scores
  const std::vector<float> y = Forward(nullptr);
  constexpr int64_t kDropped = (kTokens - 2) * kHidden;
  EXPECT_EQ(saved_.dispatch.rows(), 2);
  EXPECT_THAT(Slice(y, 0, kDropped), Each(0.0f));
  // Near, not equal: a product of two rows may add in another order than one of six.
  EXPECT_THAT(Slice(y, kDropped, 2 * kHidden),
              Pointwise(IsNearBy(1e-5), Slice(unlimited, kDropped, 2 * kHidden)));

  Backward(Sines(kTokens * kHidden, 0.15));
  EXPECT_THAT(Slice(dx_, 0, kDropped), Each(0.0f));
  EXPECT_THAT(Slice(dx_, kDropped, 2 * kHidden), Each(::testing::Ne(0.0f)));
}

}  // namespace
}  // namespace moe::model
