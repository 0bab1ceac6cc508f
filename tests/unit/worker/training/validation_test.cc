// Losses on held-out text, and the average of the weights, while a run goes on.
#include <ATen/TensorOperators.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/worker/parallel/run_ranks.h"
#include "tests/unit/worker/training/tiny_run.h"
#include "worker/evaluation/perplexity.h"
#include "worker/model/weights.h"
#include "worker/training/weight_average.h"

namespace moe::training {
namespace {

using testing::ElementsAreArray;
using testing::SizeIs;

class ValidationTest : public testing::Test {
 protected:
  ValidationTest() { WriteTinyDataset(folder_.File("dataset")); }

  TinyRun NewRun(const std::string& attempt, int64_t steps = 8) const {
    return {.dataset_folder = folder_.File("dataset"),
            .checkpoint_folder = folder_.File(attempt),
            .steps = steps,
            .checkpoint_interval_steps = 3,
            .validation = {.interval_steps = 3, .heldout_samples = 4}};
  }

  const TemporaryFolder folder_;
};

TEST_F(ValidationTest, HeldoutLosses_ComeAtTheIntervalAndAtTheEnd) {
  RecordingObserver observer;
  Train(NewRun("a"), observer);
  ASSERT_THAT(observer.steps, SizeIs(8));
  for (const StepReport& step : observer.steps) {
    const bool is_due = step.step == 3 || step.step == 6 || step.step == 8;
    for (const StepReport::Domain& domain : step.domains) {
      EXPECT_EQ(domain.heldout_loss.has_value(), is_due) << step.step << " " << domain.name;
    }
  }
}

TEST_F(ValidationTest, HeldoutLosses_AreThoseOfTheCheckpointOfTheStep) {
  RecordingObserver observer;
  const TinyRun run = NewRun("a", 6);
  Train(run, observer);
  const auto loaded = model::LoadModel(observer.checkpoints.back().path);
  ASSERT_TRUE(loaded.ok()) << ToString(loaded.status());
  model::Model model(loaded->config, {.compute = run.compute});
  model.SetParameters(loaded->parameters);
  const auto dataset = sampler::Dataset::Open(run.dataset_folder).value();
  const auto losses = evaluation::MeasureDomains(
      model, *dataset, {.sequence_length = 32, .max_samples_per_domain = 4, .batch_samples = 2},
      [](int64_t) { return true; });
  ASSERT_THAT(losses, SizeIs(2));
  for (size_t i = 0; i < losses.size(); ++i) {
    EXPECT_EQ(observer.steps.back().domains[i].heldout_loss, losses[i].MeanLoss());
  }
}

TEST_F(ValidationTest, Measuring_LeavesTheRunAsItWas) {
  RecordingObserver measured, plain;
  Train(NewRun("a"), measured);
  TinyRun run = NewRun("b");
  run.validation = {};
  Train(run, plain);
  ASSERT_EQ(measured.steps.size(), plain.steps.size());
  for (size_t i = 0; i < plain.steps.size(); ++i) {
    EXPECT_EQ(measured.steps[i].loss, plain.steps[i].loss);
    EXPECT_EQ(measured.steps[i].gradient_norm, plain.steps[i].gradient_norm);
  }
}

TEST_F(ValidationTest, TwoRanks_MeasureWhatOneMeasures) {
  RecordingObserver one, two[2];
  Train(NewRun("a", 3), one);
  parallel::RunRanks(2, /*timeout_ms=*/60'000, [&](parallel::Communicator& communicator) {
    Train(NewRun("b", 3), communicator, two[communicator.rank()]);
  });
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_NEAR(*one.steps.back().domains[i].heldout_loss,
                *two[0].steps.back().domains[i].heldout_loss, 2e-5);
  }
}

class WeightAverageTest : public ValidationTest {
 protected:
  TinyRun Averaging(const std::string& attempt) const {
    TinyRun run = NewRun(attempt, 6);
    run.validation = {};
    run.checkpoint_interval_steps = 1;
    run.weight_average = {.decay = 0.75, .start_step = 2};
    return run;
  }
  static at::Tensor Load(const WrittenCheckpoint& checkpoint, model::WhichWeights which) {
    auto loaded = model::LoadModel(checkpoint.path, which);
    if (!loaded.ok()) throw std::runtime_error(ToString(loaded.status()));
    return loaded->parameters;
  }
};

// By hand, from the weights of every step's checkpoint.
TEST_F(WeightAverageTest, Checkpoints_HoldTheAverageOfTheStepsSinceItsStart) {
  RecordingObserver observer;
  Train(Averaging("a"), observer);
  at::Tensor expected;
  ASSERT_THAT(observer.checkpoints, SizeIs(6));
  for (const WrittenCheckpoint& checkpoint : observer.checkpoints) {
    const at::Tensor weights = Load(checkpoint, model::WhichWeights::kLatest);
    expected = checkpoint.step <= 2 ? weights : expected * 0.75 + weights * 0.25;
    const at::Tensor average = Load(checkpoint, model::WhichWeights::kAverage);
    EXPECT_LT((average - expected).norm().item<double>(), 1e-6 * expected.norm().item<double>())
        << "step " << checkpoint.step;
  }
  EXPECT_GT((Load(observer.checkpoints.back(), model::WhichWeights::kLatest) - expected)
                .norm()
                .item<double>(),
            0);
}

TEST_F(WeightAverageTest, Resume_GoesOnWithTheAverage) {
  RecordingObserver undisturbed, resumed;
  Train(Averaging("a"), undisturbed);
  TinyRun run = Averaging("b");
  run.resume = undisturbed.checkpoints.at(3);
  Train(run, resumed);
  EXPECT_TRUE(Load(undisturbed.checkpoints.back(), model::WhichWeights::kAverage)
                  .equal(Load(resumed.checkpoints.back(), model::WhichWeights::kAverage)));
}

TEST_F(WeightAverageTest, CheckpointWithoutOne_IsRefusedByName) {
  RecordingObserver observer;
  Train(NewRun("a", 1), observer);
  const auto loaded =
      model::LoadModel(observer.checkpoints.back().path, model::WhichWeights::kAverage);
  EXPECT_THAT(ToString(loaded.status()), testing::HasSubstr("holds no average of weights"));
}

}  // namespace
}  // namespace moe::training
