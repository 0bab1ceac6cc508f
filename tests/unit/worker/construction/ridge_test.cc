#include "worker/construction/ridge.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <cmath>

namespace moe::construction {
namespace {

double SquaredNorm(const at::Tensor& x) { return x.pow(2).sum().item<double>(); }

TEST(RidgeThatGeneralises, CleanTargets_AreFoundWithTheLeastRidge) {
  at::manual_seed(1);
  const at::Tensor features = at::randn({400, 8}, at::kFloat),
                   truth = at::randn({8, 3}, at::kFloat);
  const ChosenRidge fit = RidgeThatGeneralises(features, at::mm(features, truth), 8);
  EXPECT_EQ(fit.ridge, 1e-3);
  EXPECT_LT(SquaredNorm(fit.weights_FR - truth), 1e-4 * SquaredNorm(truth));
}

TEST(RidgeThatGeneralises, PureNoise_IsNotLearnt) {
  at::manual_seed(2);
  const ChosenRidge fit =
      RidgeThatGeneralises(at::randn({64, 40}, at::kFloat), at::randn({64, 30}, at::kFloat), 8);
  EXPECT_TRUE(std::isinf(fit.ridge) || fit.ridge >= 1);
  EXPECT_LT(SquaredNorm(fit.weights_FR), 4);
}

// As many features as tokens: a small ridge reproduces the sample and nothing else.
TEST(RidgeThatGeneralises, FewNoisyTokens_PredictsNewOnesBetterThanALittleRidge) {
  at::manual_seed(3);
  const at::Tensor truth = at::randn({48, 10}, at::kFloat).mul_(0.3);
  const at::Tensor features = at::randn({64, 48}, at::kFloat);
  const at::Tensor targets = at::mm(features, truth) + at::randn({64, 10}, at::kFloat).mul_(2);
  const at::Tensor unseen = at::randn({1000, 48}, at::kFloat);
  const auto error = [&](const at::Tensor& weights) {
    return SquaredNorm(at::mm(unseen, weights) - at::mm(unseen, truth));
  };
  EXPECT_LT(error(RidgeThatGeneralises(features, targets, 16).weights_FR),
            0.7 * error(RidgeRegression(features, targets, 1e-3)));
}

TEST(RidgeRegression, FeaturesThatNeverMove_GetZero) {
  const at::Tensor features = at::randn({20, 3}, at::kFloat).mul_(0);
  EXPECT_EQ(SquaredNorm(RidgeRegression(features, at::randn({20, 2}, at::kFloat), 1e-2)), 0);
}

}  // namespace
}  // namespace moe::construction
