#include "worker/model/batch.h"

#include <ATen/Parallel.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

#include "tests/numerics/tiny_model.h"
#include "worker/model/model.h"

namespace moe::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::RandomParameters;
using testing::RandomTokens;
using ::testing::ThrowsMessage;

// Samples longer than a block of queries, of one token, and in between.
constexpr int64_t kLengths[] = {70, 1, 5, 128, 33};

artefacts::ModelConfig Config() {
  artefacts::ModelConfig config = testing::TinyMoe();
  config.moe.balance_loss_weight = 0;  // of a whole micro-batch: not the sum over its samples
  return config;
}

class BatchTest : public ::testing::Test {
 protected:
  BatchTest() { model_.SetParameters(parameters_); }

  // Some targets count, as in a conversation.
  Batch SampleOf(int64_t number) const {
    Batch batch;
    Add(number, batch);
    return batch;
  }
  void Add(int64_t number, Batch& batch) const {
    const int64_t length = kLengths[number];
    const at::Tensor tokens = RandomTokens(1, length, config_.vocab_size, /*seed=*/number + 1);
    const Batch::Room room = batch.AddSample(length);
    for (int64_t t = 0; t < length; ++t) {
      room.tokens[t] = tokens[0][t].item<int64_t>();
      if (t > 0 && t % 3 != 0) room.targets[t - 1] = room.tokens[t];
    }
  }

  const artefacts::ModelConfig config_ = Config();
  Model model_{config_, {.compute = ComputeType::kFp32}};
  const at::Tensor parameters_ = RandomParameters(model_.layout(), /*seed=*/1);
};

TEST_F(BatchTest, SamplesTogether_GiveWhatEachGivesAlone) {
  Batch all;
  for (int64_t i = 0; i < std::ssize(kLengths); ++i) Add(i, all);
  const LossScale scale{.target = 0.01, .balance = 1};
  at::Tensor together = at::zeros_like(parameters_), alone = at::zeros_like(parameters_);
  const BatchResult result =
      model_.ForwardBackward(all, {.seed = 3, .first_sample = 40}, scale, together);
  const BatchResult evaluated = model_.Evaluate(all);
  for (int64_t i = 0; i < std::ssize(kLengths); ++i) {
    const Batch one = SampleOf(i);
    if (one.num_targets() == 0) {
      EXPECT_EQ(result.sample_loss_sum[i], 0);
      continue;
    }
    // The noise is that of the sample's number in the run.
    const BatchResult expected =
        model_.ForwardBackward(one, {.seed = 3, .first_sample = 40 + i}, scale, alone);
    EXPECT_NEAR(result.sample_loss_sum[i], expected.sample_loss_sum[0],
                1e-5 * expected.sample_loss_sum[0]);
    EXPECT_NEAR(evaluated.sample_loss_sum[i], model_.Evaluate(one).sample_loss_sum[0],
                1e-5 * expected.sample_loss_sum[0]);
  }
  EXPECT_EQ(result.num_targets, all.num_targets());
  EXPECT_LT((together - alone).norm().item<double>(), 1e-5 * alone.norm().item<double>());
}

TEST_F(BatchTest, Loss_IsThatOfTheTargetsThatCount) {
  const Batch batch = SampleOf(0);
  const at::Tensor tokens = RandomTokens(1, kLengths[0], config_.vocab_size, /*seed=*/1);
  const at::Tensor log_p = at::log_softmax(model_.Logits(tokens)[0], -1);
  double expected = 0;
  int64_t counted = 0;
  for (int64_t t = 0; t + 1 < kLengths[0]; ++t) {
    if ((t + 1) % 3 == 0) continue;
    expected -= log_p[t][tokens[0][t + 1].item<int64_t>()].item<double>();
    ++counted;
  }
  const BatchResult result = model_.Evaluate(batch);
  EXPECT_EQ(result.num_targets, counted);
  EXPECT_NEAR(result.MeanLoss(), expected / static_cast<double>(counted), 1e-5);
}

TEST_F(BatchTest, SameBatch_GivesTheSameBitsWithAnyNumberOfThreads) {
  Batch all;
  for (int64_t i = 0; i < std::ssize(kLengths); ++i) Add(i, all);
  std::vector<at::Tensor> gradients;
  for (int round = 0; round < 2; ++round) {
    at::set_num_threads(2);
    gradients.push_back(at::zeros_like(parameters_));
    model_.ForwardBackward(all, {.seed = 3}, {}, gradients.back());
  }
  EXPECT_TRUE(at::equal(gradients[0], gradients[1]));
}

TEST_F(BatchTest, BatchThatDoesNotFit_IsRefused) {
  const auto refuse = [this](const Batch& batch, const char* problem) {
    EXPECT_THAT([&] { model_.Evaluate(batch); },
                ThrowsMessage<std::invalid_argument>(HasSubstr(problem)));
  };
  refuse({}, "empty");
  Batch long_one;
  long_one.AddSample(129);
  refuse(long_one, "sample 0 has 129 tokens; it must have 1 to the model's context of 128");
  Batch bad_target = SampleOf(2);
  bad_target.targets[0] = 61;
  refuse(bad_target, "with target 61, outside the vocabulary of 61");
  Batch short_ends = SampleOf(2);
  short_ends.ends[0] = 4;
  refuse(short_ends, "samples end at token 4 of 5");
}

TEST(ToBatch, EqualLengths_PredictTheNextToken) {
  const Batch batch = ToBatch(RandomTokens(2, 3, 10, /*seed=*/1));
  EXPECT_THAT(batch.ends, ElementsAre(3, 6));
  EXPECT_THAT(batch.targets, ElementsAre(batch.tokens[1], batch.tokens[2], -1, batch.tokens[4],
                                         batch.tokens[5], -1));
  EXPECT_EQ(batch.num_targets(), 4);
}

}  // namespace
}  // namespace moe::model
