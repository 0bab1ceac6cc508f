#include "worker/construction/train_gate.h"

#include <ATen/Context.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

namespace moe::construction {
namespace {

constexpr int64_t kTokens = 1200, kHidden = 6, kExperts = 3;

// Which expert is active can be read from x: the largest of its first three values.
struct Text {
  at::Tensor x_Td, activity_TN;
};
Text MakeText() {
  at::manual_seed(11);
  Text text{.x_Td = at::randn({kTokens, kHidden}, at::kFloat), .activity_TN = {}};
  text.activity_TN = text.x_Td.narrow(1, 0, kExperts).clone();
  return text;
}

std::map<std::string, at::Tensor> Blind(const std::string& network) {
  std::map<std::string, at::Tensor> weights = {
      {"router.0", at::randn({kExperts, kHidden}, at::kFloat).mul_(0.01)}};
  if (network == "mlp") weights["router.2"] = at::eye(kExperts, at::kFloat);
  return weights;
}

class TrainGateTest : public ::testing::TestWithParam<const char*> {};

TEST_P(TrainGateTest, LearnsWhichExpertIsActive) {
  const Text text = MakeText();
  const TrainedGate gate =
      TrainGate({.epochs = 60, .seed = 3}, 0, text.x_Td, text.activity_TN, Blind(GetParam()));
  EXPECT_LT(gate.accuracy_before, 0.8);
  EXPECT_GT(gate.accuracy, 0.9);
  EXPECT_EQ(gate.weights.count("router.2"), std::string(GetParam()) == "mlp" ? 1u : 0u);
}

TEST_P(TrainGateTest, SameSeed_GivesTheSameBits) {
  const Text text = MakeText();
  const auto start = Blind(GetParam());
  const GateTrainingOptions options{.epochs = 3, .seed = 3};
  const TrainedGate a = TrainGate(options, 1, text.x_Td, text.activity_TN, start);
  const TrainedGate b = TrainGate(options, 1, text.x_Td, text.activity_TN, start);
  for (const auto& [name, value] : a.weights) EXPECT_TRUE(at::equal(value, b.weights.at(name)));
}

INSTANTIATE_TEST_SUITE_P(Networks, TrainGateTest, ::testing::Values("linear", "mlp"));

TEST(TrainGate, NoBetterThanTheStart_KeepsTheStart) {
  const Text text = MakeText();
  at::Tensor knows = at::zeros({kExperts, kHidden}, at::kFloat);
  for (int64_t e = 0; e < kExperts; ++e) knows[e][e].fill_(1.0);
  const TrainedGate gate = TrainGate({.epochs = 1, .learning_rate = 1.0}, 0, text.x_Td,
                                     text.activity_TN, {{"router.0", knows}});
  EXPECT_EQ(gate.accuracy, 1.0);
  EXPECT_TRUE(at::equal(gate.weights.at("router.0"), knows));
}

TEST(ExpertActivity, SumsOverAnExpertsNeurons) {
  const at::Tensor h_TI = at::tensor({1.0f, -2.0f, 3.0f, -4.0f}).view({1, 4});
  const LayerPartition partition{.experts = {{0, 3}, {1, 2}}, .shared = {}};
  const auto activity = [&](Teacher teacher) {
    const at::Tensor found = ExpertActivity(h_TI, partition, teacher);
    return std::vector<float>{found[0][0].item<float>(), found[0][1].item<float>()};
  };
  EXPECT_EQ(activity(Teacher::kL1), (std::vector<float>{5, 5}));
  EXPECT_EQ(activity(Teacher::kL2), (std::vector<float>{17, 13}));
  EXPECT_EQ(activity(Teacher::kPositive), (std::vector<float>{1, 3}));
  EXPECT_EQ(activity(Teacher::kPlain), (std::vector<float>{3, 1}));
}

}  // namespace
}  // namespace moe::construction
