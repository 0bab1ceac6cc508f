#include "worker/construction/predictive_neurons.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/construction/ridge.h"
#include "worker/construction/rows.h"

namespace moe::construction {
namespace {

using ::testing::ElementsAre;

TEST(PredictiveNeurons, AreThoseThatTheTargetIsMadeOf) {
  at::manual_seed(3);
  const at::Tensor h_TI = at::randn({300, 12}, at::kFloat);
  at::Tensor down_dI = at::randn({5, 12}, at::kFloat);
  down_dI.mul_(0.05);
  for (const int64_t strong : {4, 9, 10}) down_dI.select(1, strong).mul_(40);
  EXPECT_THAT(PredictiveNeurons(h_TI, at::mm(h_TI, down_dI.t()), 3), ElementsAre(4, 9, 10));
}

// The second largest says what the largest says.
TEST(PredictiveNeurons, WhatAnotherPredictsAlready_IsLeftOut) {
  at::manual_seed(4);
  at::Tensor h_TI = at::randn({300, 6}, at::kFloat);
  h_TI.select(1, 2).copy_(h_TI.select(1, 1) * 0.99 + at::randn({300}, at::kFloat) * 1e-3);
  at::Tensor down_dI = at::randn({8, 6}, at::kFloat);
  down_dI.select(1, 1).mul_(20);
  down_dI.select(1, 2).mul_(18);
  down_dI.select(1, 5).mul_(5);
  const auto chosen = PredictiveNeurons(h_TI, at::mm(h_TI, down_dI.t()), 2);
  EXPECT_EQ(chosen.size(), 2u);
  EXPECT_EQ(chosen[1], 5);
  EXPECT_TRUE(chosen[0] == 1 || chosen[0] == 2) << chosen[0];
}

TEST(PredictiveNeurons, PredictBetterThanTheLargest) {
  at::manual_seed(5);
  // 40 neurons that are mixtures of 6 signals, larger ones more alike.
  const at::Tensor signals = at::randn({400, 6}, at::kFloat);
  at::Tensor mixture = at::randn({6, 40}, at::kFloat);
  for (int64_t i = 0; i < 20; ++i) mixture.select(1, i).copy_(mixture.select(1, 0) * 3);
  const at::Tensor h_TI = at::mm(signals, mixture) + at::randn({400, 40}, at::kFloat) * 0.1;
  const at::Tensor target_Td = at::mm(h_TI, at::randn({40, 10}, at::kFloat));
  const auto error = [&](const std::vector<int64_t>& neurons) {
    const at::Tensor features = Rows(h_TI.t().contiguous(), neurons).t().contiguous();
    const at::Tensor rest =
        target_Td - at::mm(features, RidgeRegression(features, target_Td, 1e-4));
    return rest.pow(2).sum().item<double>();
  };
  EXPECT_LT(error(PredictiveNeurons(h_TI, target_Td, 6)), 0.5 * error({0, 1, 2, 3, 4, 5}));
}

TEST(PredictiveNeurons, DoNotDependOnThreads) {
  at::manual_seed(6);
  const at::Tensor h_TI = at::randn({500, 300}, at::kFloat);
  const at::Tensor target_Td = at::mm(h_TI, at::randn({300, 40}, at::kFloat));
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto alone = PredictiveNeurons(h_TI, target_Td, 60);
  at::set_num_threads(3);
  const auto threaded = PredictiveNeurons(h_TI, target_Td, 60);
  at::set_num_threads(threads);
  EXPECT_EQ(alone, threaded);
  EXPECT_EQ(alone.size(), 60u);
}

TEST(PredictiveNeurons, AllOfThem_AreAll) {
  at::manual_seed(7);
  const at::Tensor h_TI = at::randn({50, 5}, at::kFloat);
  EXPECT_THAT(PredictiveNeurons(h_TI, h_TI, 5), ElementsAre(0, 1, 2, 3, 4));
}

}  // namespace
}  // namespace moe::construction
