#include "coordinator/sampler/update_rule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "common/philox.h"
#include "common/status.h"

namespace moe::coordinator {
namespace {

// Domains in the order commoncrawl, c4, github, wikipedia, books, arxiv, stackexchange.
using Weights = std::vector<double>;
const std::vector<std::string> kDomains = {"commoncrawl", "c4",    "github",       "wikipedia",
                                           "books",       "arxiv", "stackexchange"};
// Dense LLaMA-2-7B, as LLaMA-MoE's code has it.
const Weights kReference = {1.6916865110397339, 2.074881076812744, 0.6984495520591736,
                            1.5899001359939575, 1.925248146057129, 1.2408167123794556,
                            1.4974864721298218};
const Weights kLosses = {1.728, 2.117, 0.705, 1.572, 2.071, 1.287, 1.491};
const Weights kLlama1 = {0.67, 0.15, 0.045, 0.045, 0.045, 0.025, 0.02};
const Weights kSheared = {0.361, 0.492, 0.008, 0.031, 0.091, 0.007, 0.01};
const Weights kUniform(7, 1.0 / 7);

std::vector<DomainStanding> Standing(const Weights& weights, const Weights& losses = kLosses) {
  std::vector<DomainStanding> domains;
  for (size_t i = 0; i < weights.size(); ++i) {
    domains.push_back({kDomains[i], weights[i], losses[i], kReference[i]});
  }
  return domains;
}

void ExpectNear(UpdateRule rule, const Weights& start, const Weights& expected, double tolerance) {
  const auto weights = UpdateWeights(rule, Standing(start));
  ASSERT_TRUE(weights.ok()) << ToString(weights.status());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR((*weights)[i], expected[i], tolerance) << kDomains[i];
  }
}

// One update by the published code, which computes this rule in double precision.
TEST(UpdateRuleTest, Paper_IsThePublishedOneTo1e9) {
  ExpectNear(UpdateRule::kPaper, kLlama1,
             {.668203876, .150468889, .043563301, .043278874, .050069722, .025180282, .019235055},
             1e-9);
  ExpectNear(UpdateRule::kPaper, kSheared,
             {.356803442, .489111872, .007675133, .029546958, .100344068, .006987250, .009531277},
             1e-9);
  ExpectNear(UpdateRule::kPaper, kUniform,
             {.142232464, .143060587, .138061571, .137160161, .158681835, .143643221, .137160161},
             1e-9);
}

// The same formula, evaluated by another program in double precision.
TEST(UpdateRuleTest, Sheared_IsItsFormulaTo1e11) {
  ExpectNear(UpdateRule::kSheared, kLlama1,
             {.668747965381, .150602478271, .043612126682, .042559060516, .050123706800,
              .025214532935, .019140129414},
             1e-11);
  ExpectNear(UpdateRule::kSheared, kSheared,
             {.356991169346, .489363914037, .007693149336, .029051162897, .100407130849,
              .007004932047, .009488541488},
             1e-11);
  ExpectNear(UpdateRule::kSheared, kUniform,
             {.142706285447, .143537083706, .138521916267, .135176390520, .159208801519,
              .144121599699, .136727922842},
             1e-11);
}

// One update by the published code, which computes this rule in fp32: its sums and exponentials
// round at 6e-8 of a value below 1.
TEST(UpdateRuleTest, Sheared_IsThePublishedOneUpToItsFp32) {
  constexpr double kFp32 = 6e-8;
  ExpectNear(UpdateRule::kSheared, kLlama1,
             {.668747971, .150602464, .043612127, .042559058, .050123714, .025214536, .019140130},
             kFp32);
  ExpectNear(UpdateRule::kSheared, kSheared,
             {.356991190, .489363904, .007693148, .029051164, .100407121, .007004932, .009488540},
             kFp32);
  ExpectNear(UpdateRule::kSheared, kUniform,
             {.142706292, .143537091, .138521912, .135176392, .159208792, .144121589, .136727931},
             kFp32);
}

TEST(UpdateRuleTest, AnyLosses_GiveWeightsThatSumToOneAndFollowTheExcess) {
  for (uint32_t seed = 0; seed < 500; ++seed) {
    PhiloxGenerator random(seed, RandomStream::kTest, 5);
    Weights start, losses;
    for (size_t i = 0; i < 7; ++i) {
      start.push_back(1 + random.Below(1000));
      losses.push_back(0.5 + random.Below(1000) / 400.0);
    }
    for (const UpdateRule rule : {UpdateRule::kSheared, UpdateRule::kPaper}) {
      const auto weights = UpdateWeights(rule, Standing(start, losses));
      ASSERT_TRUE(weights.ok());
      EXPECT_NEAR(std::accumulate(weights->begin(), weights->end(), 0.0), 1, 1e-14);
      // Between two domains the ratio moves towards the one with the greater excess.
      for (size_t i = 1; i < 7; ++i) {
        const double excess = losses[i] - kReference[i], first = losses[0] - kReference[0];
        if (excess > std::max(0.0, first) + 1e-3) {
          EXPECT_GT((*weights)[i] / (*weights)[0], start[i] / start[0]) << "seed " << seed;
        }
      }
    }
  }
}

TEST(UpdateRuleTest, Sheared_NoDomainVanishes) {
  Weights weights = kUniform;
  Weights losses = kReference;
  losses[0] += 5;  // all the others are far ahead, for a thousand updates
  for (int i = 0; i < 1000; ++i) {
    const auto next = UpdateWeights(UpdateRule::kSheared, Standing(weights, losses));
    ASSERT_TRUE(next.ok());
    weights = *next;
  }
  for (size_t i = 1; i < 7; ++i) EXPECT_GE(weights[i], 1e-4 / 7);
}

TEST(UpdateRuleTest, Paper_DomainThatWouldVanish_IsRefusedWithTheWayOut) {
  Weights losses = kReference;
  losses[0] += 1000;
  const auto weights = UpdateWeights(UpdateRule::kPaper, Standing(kUniform, losses));
  ASSERT_TRUE(absl::IsInvalidArgument(weights.status()));
  EXPECT_NE(Message(weights.status()).find("use the rule sheared"), std::string::npos);
}

TEST(UpdateRuleTest, BadNumbers_AreRefusedNamingTheDomain) {
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    Weights losses = kLosses;
    losses[4] = bad;
    const auto weights = UpdateWeights(UpdateRule::kSheared, Standing(kLlama1, losses));
    ASSERT_TRUE(absl::IsInvalidArgument(weights.status()));
    EXPECT_NE(Message(weights.status()).find("books"), std::string::npos);
  }
  Weights zero = kLlama1;
  zero[2] = 0;
  EXPECT_TRUE(absl::IsInvalidArgument(UpdateWeights(UpdateRule::kPaper, Standing(zero)).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(UpdateWeights(UpdateRule::kPaper, {}).status()));
}

TEST(UpdateRuleTest, Names_AreKnownBothWays) {
  for (const std::string& name : UpdateRuleNames()) EXPECT_TRUE(UpdateRuleOf(name).has_value());
  EXPECT_FALSE(UpdateRuleOf("sheard").has_value());
}

}  // namespace
}  // namespace moe::coordinator
