#include "worker/model/rope_frequencies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moe::model {
namespace {

using testing::Pointwise;

artefacts::ModelConfig Config(double theta, int64_t head_dim, artefacts::RopeScaling scaling) {
  artefacts::ModelConfig config;
  config.rope_theta = theta;
  config.head_dim = head_dim;
  config.rope_scaling = scaling;
  return config;
}

MATCHER_P(RelativelyNear, tolerance, "") {
  return std::abs(std::get<0>(arg) - std::get<1>(arg)) <= tolerance * std::get<1>(arg);
}

// The numbers are those of transformers' formulas, in fp64.
TEST(RopeFrequencies, EachScaling_IsThatOfTransformers) {
  EXPECT_THAT(RopeFrequencies(Config(10000, 8, {}), 4096),
              Pointwise(RelativelyNear(1e-12), {1.0, 0.1, 0.01, 0.001}));
  EXPECT_THAT(RopeFrequencies(Config(10000, 8, {.type = "linear", .factor = 4}), 4096),
              Pointwise(RelativelyNear(1e-12), {0.25, 0.025, 0.0025, 0.00025}));
  const auto llama3 = Config(10000, 16, {.type = "llama3", .factor = 4, .original_context = 64});
  // The first is kept, the second is in between, the others are divided.
  EXPECT_THAT(RopeFrequencies(llama3, 4096),
              Pointwise(RelativelyNear(1e-12),
                        {1.0, 0.25464790894703254, 0.025464790894703257, 0.007905694150420948,
                         0.0025, 0.0007905694150420948, 0.00025, 7.905694150420948e-05}));
}

TEST(RopeFrequencies, Dynamic_DependsOnTheLongestSampleBeyondTheContext) {
  const auto dynamic = Config(10000, 8, {.type = "dynamic", .factor = 2, .original_context = 64});
  const auto plain = RopeFrequencies(Config(10000, 8, {}), 64);
  EXPECT_THAT(RopeFrequencies(dynamic, 10), Pointwise(RelativelyNear(1e-12), plain));
  EXPECT_THAT(RopeFrequencies(dynamic, 64), Pointwise(RelativelyNear(1e-12), plain));
  EXPECT_THAT(RopeFrequencies(dynamic, 128),
              Pointwise(RelativelyNear(1e-12),
                        {1.0, 0.06933612743506347, 0.004807498567691361, 0.0003333333333333334}));
}

}  // namespace
}  // namespace moe::model
