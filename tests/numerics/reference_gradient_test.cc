// The reference model itself: autograd against finite differences, in fp64.
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/numerics/tiny_model.h"
#include "worker/model/reference.h"

namespace moe::model {
namespace {

double Loss(const artefacts::ModelConfig& config, const ParameterLayout& layout,
            LoadEstimator estimator, const at::Tensor& parameters, const at::Tensor& tokens,
            const NoiseContext& noise) {
  const reference::Output out =
      reference::Forward(config, layout, estimator, parameters, tokens, &noise);
  return (out.mean_loss + out.balance_loss).item<double>();
}

class ReferenceGradient : public ::testing::TestWithParam<LoadEstimator> {};

// One random direction per parameter tensor. Steps are small enough that no token changes its
// experts; the central difference is then exact to O(step^2).
TEST_P(ReferenceGradient, EqualsFiniteDifferences) {
  const artefacts::ModelConfig config = testing::TinyMoe();
  const ParameterLayout layout(config);
  const at::Tensor parameters = testing::RandomParameters(layout, /*seed=*/1).to(at::kDouble);
  const at::Tensor tokens = testing::RandomTokens(2, 9, config.vocab_size, /*seed=*/2);
  const NoiseContext noise{.seed = 3};

  at::Tensor leaf = parameters.clone().requires_grad_();
  const reference::Output out =
      reference::Forward(config, layout, GetParam(), leaf, tokens, &noise);
  (out.mean_loss + out.balance_loss).backward();

  constexpr double kStep = 1e-6;
  for (const Parameter& parameter : layout.parameters()) {
    at::Tensor direction = at::zeros_like(parameters);
    direction.narrow(0, parameter.offset, parameter.numel)
        .copy_(at::randn({parameter.numel}, at::kDouble));
    auto loss = [&](double step) {
      return Loss(config, layout, GetParam(), parameters.add(direction, step), tokens, noise);
    };
    const double difference = (loss(kStep) - loss(-kStep)) / (2 * kStep);
    const double gradient = leaf.grad().dot(direction).item<double>();
    EXPECT_NEAR(gradient, difference, 1e-6 + 1e-5 * std::abs(difference)) << parameter.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Estimators, ReferenceGradient,
                         ::testing::Values(LoadEstimator::kCorrect, LoadEstimator::kCompat));

}  // namespace
}  // namespace moe::model
