#include "worker/model/model.h"

#include <ATen/Parallel.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <stdexcept>

#include "tests/numerics/tiny_model.h"
#include "worker/kernels/device/host_step_kernels.h"
#include "worker/model/arena.h"

namespace moe::model {
namespace {

using ::testing::HasSubstr;
using testing::RandomParameters;
using testing::RandomTokens;
using ::testing::ThrowsMessage;
using testing::TinyDense;
using testing::TinyMoe;

struct Way {
  const char* name;
  ComputeType compute;
  bool on_device = false;  // the step for devices, here on the host's kernels
};

class ModelTest : public ::testing::TestWithParam<Way> {
 protected:
  ModelTest() { model_.SetParameters(parameters_); }

  kernels::device::HostStepKernels kernels_;
  artefacts::ModelConfig config_ = TinyMoe();
  Model model_{
      config_,
      {.compute = GetParam().compute, .kernels = GetParam().on_device ? &kernels_ : nullptr}};
  at::Tensor parameters_ = RandomParameters(model_.layout(), /*seed=*/1);
  at::Tensor tokens_ = RandomTokens(4, 70, config_.vocab_size, /*seed=*/2);
};

TEST_P(ModelTest, SameInputs_GiveTheSameBits) {
  at::set_num_threads(2);
  at::Tensor first = at::zeros_like(parameters_), second = at::zeros_like(parameters_);
  const BatchResult a = model_.ForwardBackward(tokens_, {.seed = 3}, 1.0, first);
  model_.Evaluate(tokens_.narrow(0, 0, 1));  // leaves other values in reused memory
  const BatchResult b = model_.ForwardBackward(tokens_, {.seed = 3}, 1.0, second);
  EXPECT_EQ(a.sample_loss_sum, b.sample_loss_sum);
  EXPECT_EQ(a.balance_loss, b.balance_loss);
  EXPECT_TRUE(at::equal(first, second));
}

TEST_P(ModelTest, AnotherSeed_DrawsOtherNoise) {
  at::Tensor gradients = at::zeros_like(parameters_);
  const BatchResult a = model_.ForwardBackward(tokens_, {.seed = 3}, 1.0, gradients);
  const BatchResult b = model_.ForwardBackward(tokens_, {.seed = 4}, 1.0, gradients);
  EXPECT_NE(a.sample_loss_sum, b.sample_loss_sum);
}

TEST_P(ModelTest, Gradients_AreAddedAndScaled) {
  at::Tensor once = at::zeros_like(parameters_), twice = at::zeros_like(parameters_);
  model_.ForwardBackward(tokens_, {.seed = 3}, 1.0, once);
  model_.ForwardBackward(tokens_, {.seed = 3}, 0.5, twice);
  model_.ForwardBackward(tokens_, {.seed = 3}, 0.5, twice);
  EXPECT_LT((once - twice).norm().item<double>(), 1e-5 * once.norm().item<double>());
}

TEST_P(ModelTest, Evaluate_IsTheCrossEntropyOfLogitsAndRepeats) {
  const BatchResult result = model_.Evaluate(tokens_);
  const at::Tensor logits = model_.Logits(tokens_);
  ASSERT_EQ(result.sample_loss_sum.size(), 4u);
  ASSERT_EQ(result.num_targets, 4 * 69);
  for (int64_t b = 0; b < 4; ++b) {
    const double expected =
        at::cross_entropy_loss(logits[b].narrow(0, 0, 69), tokens_[b].narrow(0, 1, 69))
            .item<double>();
    EXPECT_NEAR(result.sample_loss_sum[b] / 69, expected,
                GetParam().compute == ComputeType::kFp32 ? 1e-5 : 1e-2);
  }
  EXPECT_EQ(model_.Evaluate(tokens_).sample_loss_sum, result.sample_loss_sum) << "noise?";
  EXPECT_EQ(result.routing.size(), 2u);
}

TEST_P(ModelTest, OneRepeatedToken_HasFiniteLossAndGradients) {
  at::Tensor gradients = at::zeros_like(parameters_);
  const at::Tensor repeated = at::full({2, 16}, 7, at::kLong);
  const BatchResult result = model_.ForwardBackward(repeated, {.seed = 3}, 1.0, gradients);
  EXPECT_TRUE(std::isfinite(result.MeanLoss()));
  EXPECT_TRUE(std::isfinite(gradients.norm().item<double>()));
}

TEST_P(ModelTest, ExpertsWithoutATokenGetNoGradient) {
  config_.moe.add_noise = false;
  Model model(config_, {.compute = GetParam().compute,
                        .kernels = GetParam().on_device ? &kernels_ : nullptr});
  const at::Tensor parameters = RandomParameters(model.layout(), /*seed=*/1);
  model.SetParameters(parameters);
  at::Tensor gradients = at::zeros_like(parameters);
  // Every token is the same, so all go to the same experts.
  const BatchResult result =
      model.ForwardBackward(at::full({2, 16}, 7, at::kLong), {.seed = 3}, 1.0, gradients);
  const at::Tensor down = View(gradients, model.layout().Find("layers.0.experts.down"));
  for (int64_t e = 0; e < config_.moe.num_experts; ++e) {
    const int64_t tokens = result.routing[0].load[static_cast<size_t>(e)];
    EXPECT_THAT(tokens, ::testing::AnyOf(0, 32));
    EXPECT_EQ(down[e].norm().item<double>() > 0, tokens > 0) << "expert " << e;
  }
}

TEST_P(ModelTest, NanInAWeight_ShowsInTheLoss) {
  const Parameter& down = model_.layout().Find("layers.0.attn_out");
  parameters_[down.offset] = std::numeric_limits<float>::quiet_NaN();
  model_.SetParameters(parameters_);
  EXPECT_TRUE(std::isnan(model_.Evaluate(tokens_).MeanLoss()));
}

TEST_P(ModelTest, WrongInput_IsRefusedWithValueAndLimit) {
  EXPECT_THAT(
      [&] {
        model_.Evaluate(at::full({1, 8}, 61, at::kLong));
      },
      ThrowsMessage<std::invalid_argument>(HasSubstr("outside the vocabulary of 61")));
  EXPECT_THAT(
      [&] {
        model_.Evaluate(at::full({1, 129}, 1, at::kLong));
      },
      ThrowsMessage<std::invalid_argument>(HasSubstr("129 tokens")));
  EXPECT_THAT([&] { model_.SetParameters(parameters_.narrow(0, 0, 64)); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("not 64")));
  at::Tensor gradients = at::zeros_like(parameters_);
  EXPECT_THAT(
      [&] {
        model_.ForwardBackward(at::full({1, 1}, 1, at::kLong), {}, 1.0, gradients);
      },
      ThrowsMessage<std::invalid_argument>(HasSubstr("no target to learn from")));
}

INSTANTIATE_TEST_SUITE_P(Ways, ModelTest,
                         ::testing::Values(Way{"Fp32", ComputeType::kFp32},
                                           Way{"Bf16", ComputeType::kBf16},
                                           Way{"DeviceFp32", ComputeType::kFp32, true},
                                           Way{"DeviceBf16", ComputeType::kBf16, true}),
                         [](const auto& info) { return info.param.name; });

TEST(DeviceModel, RowsThatDoNotBeginAt16Bytes_AreRefused) {
  kernels::device::HostStepKernels kernels;
  artefacts::ModelConfig config = TinyMoe();
  config.moe.expert_width = 12;
  EXPECT_THAT(
      [&] { Model(config, {.compute = ComputeType::kBf16, .kernels = &kernels}); },
      ThrowsMessage<std::invalid_argument>(HasSubstr("expert_width=12 is not a multiple of 8")));
}

TEST(Model, ConfigThatDoesNotFit_IsRefused) {
  artefacts::ModelConfig config = TinyDense();
  config.num_kv_heads = 3;
  EXPECT_THAT([&] { Model(config, {}); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("num_heads=4")));
  config = TinyMoe();
  config.moe.top_k = 6;
  EXPECT_THAT([&] { Model(config, {}); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("top_k=6")));
}

}  // namespace
}  // namespace moe::model
