// Instruction tuning: conversations of any length, of which the answers count.
#include <ATen/ops/log_softmax.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/worker/parallel/run_ranks.h"
#include "tests/unit/worker/training/tiny_run.h"

namespace moe::training {
namespace {

using testing::ElementsAreArray;
using testing::SizeIs;

class FinetuneTest : public testing::Test {
 protected:
  FinetuneTest() { WriteTinyConversations(folder_.File("dataset")); }

  TinyRun NewRun(const std::string& attempt, int64_t steps) const {
    return {.dataset_folder = folder_.File("dataset"),
            .checkpoint_folder = folder_.File(attempt),
            .steps = steps,
            .checkpoint_interval_steps = 2,
            .gate_noise = false};
  }

  const TemporaryFolder folder_;
};

// By hand, from nothing but logits of each conversation alone.
TEST_F(FinetuneTest, FirstLoss_IsTheMeanOverTheAnswersOfTheBatch) {
  RecordingObserver observer;
  const TinyRun run = NewRun("a", 1);
  Train(run, observer);
  ASSERT_THAT(observer.steps, SizeIs(1));

  const auto dataset = sampler::Dataset::Open(run.dataset_folder).value();
  sampler::SampleSequence sequence = TinySequence(run, *dataset);
  model::Model model(TinyConfig(run), {.compute = run.compute});
  model.SetParameters(RandomParameters(model.config()));
  double sum = 0;
  int64_t answers = 0, tokens_read = 0;
  for (int64_t i = 0; i < run.global_batch_samples; ++i) {
    const sampler::SampleRef ref = sequence.Next();
    const auto split = sampler::Split::kTrain;
    const int64_t length = dataset->SampleLength(split, ref.domain, ref.sample, 32);
    std::vector<int64_t> ids(length), targets(length);
    dataset->ReadSample(split, ref.domain, ref.sample, 32, ids.data(), targets.data());
    at::Tensor tokens = at::empty({1, length}, at::kLong);
    std::copy(ids.begin(), ids.end(), tokens.mutable_data_ptr<int64_t>());
    const at::Tensor log_p = at::log_softmax(model.Logits(tokens)[0], -1);
    for (int64_t t = 0; t < length; ++t) {
      if (targets[t] < 0) continue;
      sum -= log_p[t][targets[t]].item<double>();
      ++answers;
    }
    tokens_read += length;
  }
  EXPECT_GT(answers, 0);
  EXPECT_LT(answers, tokens_read);
  EXPECT_EQ(observer.steps[0].target_tokens, answers);
  EXPECT_EQ(observer.steps[0].tokens, tokens_read);
  EXPECT_NEAR(observer.steps[0].loss, sum / static_cast<double>(answers), 1e-5);
}

TEST_F(FinetuneTest, Answers_AreLearnt) {
  RecordingObserver observer;
  Train(NewRun("a", 60), observer);
  EXPECT_LT(observer.steps.back().loss, observer.steps.front().loss - 0.5);
}

TEST_F(FinetuneTest, TwoRanks_GiveWhatOneGives) {
  RecordingObserver one;
  Train(NewRun("a", 4), one);
  RecordingObserver two[2];
  parallel::RunRanks(2, /*timeout_ms=*/60'000, [&](parallel::Communicator& communicator) {
    Train(NewRun("b", 4), communicator, two[communicator.rank()]);
  });
  ASSERT_THAT(two[0].steps, SizeIs(4));
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(one.steps[i].batch_crc32c, two[0].steps[i].batch_crc32c);
    EXPECT_NEAR(one.steps[i].loss, two[0].steps[i].loss, 2e-5);
  }
}

TEST_F(FinetuneTest, Resume_SameBitsAsTheUndisturbedRun) {
  RecordingObserver undisturbed, resumed;
  Train(NewRun("a", 6), undisturbed);
  TinyRun run = NewRun("b", 6);
  run.resume = undisturbed.checkpoints.at(0);
  Train(run, resumed);
  std::vector<std::string> expected = Fingerprints(undisturbed.steps);
  expected.erase(expected.begin(), expected.begin() + 2);
  EXPECT_THAT(Fingerprints(resumed.steps), ElementsAreArray(expected));
}

}  // namespace
}  // namespace moe::training
