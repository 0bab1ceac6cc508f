#include "worker/training/dynamic_mixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/worker/parallel/run_ranks.h"
#include "tests/unit/worker/training/tiny_run.h"

namespace moe::training {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

constexpr int64_t kSteps = 12, kInterval = 3, kBatch = 8;

// A coordinator with a journal: weights that are a function of the step alone, each decided once.
class Journal : public DecisionSource {
 public:
  absl::StatusOr<WeightDecision> Decide(const DomainLossReport& report) override {
    ++asked;
    reports[report.step] = report;
    if (cancelled) return Cancelled("stopped");
    const double c4 = 0.2 + 0.1 * static_cast<double>(decided.size() % 8);
    decided.push_back({.version = static_cast<int64_t>(decided.size()) + 1,
                       .step = report.step,
                       .first_sample = report.next_sample,
                       .weights = {c4, 1 - c4}});
    return decided.back();
  }
  int asked = 0;
  bool cancelled = false;
  std::vector<WeightDecision> decided;
  std::map<int64_t, DomainLossReport> reports;  // by step
};

class DynamicMixtureTest : public testing::Test {
 protected:
  DynamicMixtureTest() { WriteTinyDataset(folder_.File("dataset")); }

  TinyRun NewRun(const std::string& attempt, Journal& journal) const {
    return {
        .dataset_folder = folder_.File("dataset"),
        .checkpoint_folder = folder_.File(attempt),
        .steps = kSteps,
        .checkpoint_interval_steps = 2,
        .dynamic = {.interval_steps = kInterval, .heldout_samples = 4, .decided = journal.decided},
        .decisions = &journal};
  }
  static std::vector<uint32_t> Batches(const std::vector<StepReport>& steps) {
    std::vector<uint32_t> batches;
    for (const StepReport& step : steps) batches.push_back(step.batch_crc32c);
    return batches;
  }

  const TemporaryFolder folder_;
};

TEST_F(DynamicMixtureTest, Run_AsksAtEachIntervalAndDrawsWithWhatItWasTold) {
  Journal journal;
  RecordingObserver observer;
  Train(NewRun("a", journal), observer);
  EXPECT_EQ(journal.asked, 3);  // after steps 3, 6 and 9; nothing is drawn after the last
  ASSERT_THAT(observer.steps, SizeIs(kSteps));
  EXPECT_EQ(observer.steps[2].sampler_version, 0);
  EXPECT_EQ(observer.steps[3].sampler_version, 1);
  EXPECT_EQ(observer.steps[8].sampler_version, 2);
  EXPECT_EQ(observer.steps[11].sampler_version, 3);
  EXPECT_DOUBLE_EQ(observer.steps[2].domains[0].weight, 0.7);
  EXPECT_DOUBLE_EQ(observer.steps[3].domains[0].weight, 0.2);
  EXPECT_DOUBLE_EQ(observer.steps[11].domains[0].weight, 0.4);
  const DomainLossReport& report = journal.reports.at(6);
  EXPECT_EQ(report.next_sample, 6 * kBatch);
  EXPECT_EQ(report.version, 1);
  EXPECT_DOUBLE_EQ(report.domains[0].weight, 0.2);
  EXPECT_EQ(report.domains[0].epochs, observer.steps[5].domains[0].epochs);
}

TEST_F(DynamicMixtureTest, HeldoutLosses_FallWhileTheModelLearns) {
  Journal journal;
  RecordingObserver observer;
  TinyRun run = NewRun("a", journal);
  run.steps = 40;
  Train(run, observer);
  for (size_t domain = 0; domain < 2; ++domain) {
    EXPECT_LT(journal.reports.at(39).domains[domain].loss,
              journal.reports.at(3).domains[domain].loss - 0.5);
  }
}

// Gate noise and balance loss are in the training loss; a held-out loss does not depend on them.
TEST_F(DynamicMixtureTest, Measuring_LeavesTheRunAsItWas) {
  Journal journal;
  RecordingObserver dynamic, fixed;
  Train(NewRun("a", journal), dynamic);
  TinyRun run = NewRun("b", journal);
  run.dynamic = {};
  run.decisions = nullptr;
  Train(run, fixed);
  for (size_t i = 0; i < kInterval; ++i) {
    EXPECT_EQ(Fingerprint(dynamic.steps[i]), Fingerprint(fixed.steps[i]));
  }
  EXPECT_NE(Batches(dynamic.steps), Batches(fixed.steps));
}

TEST_F(DynamicMixtureTest, ResumeAtAnyCheckpoint_SameBitsAsTheUndisturbedRun) {
  Journal journal;
  RecordingObserver undisturbed;
  Train(NewRun("a", journal), undisturbed);
  const std::vector<std::string> expected = Fingerprints(undisturbed.steps);
  for (const WrittenCheckpoint& checkpoint : undisturbed.checkpoints) {
    // With the whole journal, and with what was decided when the checkpoint was written.
    for (const bool knows_all : {true, false}) {
      Journal again;
      for (const WeightDecision& decision : journal.decided) {
        if (knows_all || decision.step < checkpoint.step) again.decided.push_back(decision);
      }
      TinyRun run =
          NewRun("resumed-" + std::to_string(checkpoint.step) + (knows_all ? "a" : "b"), again);
      run.resume = checkpoint;
      RecordingObserver resumed;
      Train(run, resumed);
      const auto first = expected.begin() + checkpoint.step;
      EXPECT_EQ(Fingerprints(resumed.steps), std::vector<std::string>(first, expected.end()))
          << "from step " << checkpoint.step;
      if (knows_all) {
        EXPECT_EQ(again.asked, 0);
      }
    }
  }
}

TEST_F(DynamicMixtureTest, OneThenTwoThenOneRank_ReadTheBatchesOfTheUndisturbedRun) {
  Journal journal;
  RecordingObserver undisturbed;
  Train(NewRun("a", journal), undisturbed);

  Journal other;
  RecordingObserver first, second, third;
  TinyRun run = NewRun("one", other);
  first.StopDuringStep(4, StopReason::kDrain);
  Train(run, first);
  run.resume = first.checkpoints.back();
  run.dynamic.decided = other.decided;
  run.checkpoint_folder = folder_.File("two");
  second.StopDuringStep(8 - 4, StopReason::kDrain);
  parallel::RunRanks(2, 60'000, [&](parallel::Communicator& communicator) {
    RecordingObserver silent;
    Train(run, communicator,
          communicator.rank() == 0 ? static_cast<TrainObserver&>(second) : silent);
  });
  run.resume = second.checkpoints.back();
  run.dynamic.decided = other.decided;
  run.checkpoint_folder = folder_.File("three");
  Train(run, third);

  std::vector<StepReport> steps = first.steps;
  steps.insert(steps.end(), second.steps.begin(), second.steps.end());
  steps.insert(steps.end(), third.steps.begin(), third.steps.end());
  EXPECT_EQ(Batches(steps), Batches(undisturbed.steps));
  ASSERT_EQ(other.decided.size(), journal.decided.size());
  for (const auto& [step, report] : journal.reports) {
    for (size_t domain = 0; domain < 2; ++domain) {
      EXPECT_NEAR(other.reports.at(step).domains[domain].loss, report.domains[domain].loss, 2e-5);
    }
  }
}

TEST_F(DynamicMixtureTest, StopWhileWaiting_StopsAndGoesOnWithTheSameQuestion) {
  Journal journal;
  RecordingObserver observer;
  TinyRun run = NewRun("a", journal);
  journal.cancelled = true;
  observer.StopDuringStep(4, StopReason::kDrain);  // asked before step 4: three polls so far
  const TrainResult result = Train(run, observer);
  EXPECT_EQ(result.stopped, StopReason::kDrain);
  EXPECT_EQ(result.step, 3);
  journal.cancelled = false;
  const DomainLossReport before = journal.reports.at(3);
  run.resume = observer.checkpoints.back();
  run.checkpoint_folder = folder_.File("b");
  RecordingObserver resumed;
  Train(run, resumed);
  EXPECT_EQ(ToJson(journal.reports.at(3)), ToJson(before));
  EXPECT_EQ(resumed.steps.front().sampler_version, 1);
}

TEST_F(DynamicMixtureTest, CheckpointOfAnotherHistory_IsRefused) {
  Journal journal;
  RecordingObserver observer;
  TinyRun run = NewRun("a", journal);
  Train(run, observer);
  run.resume = observer.checkpoints.back();
  run.dynamic.decided = {journal.decided[0]};
  try {
    Train(run, observer);
    FAIL() << "a run must not go on with other weights";
  } catch (const CheckpointError& error) {
    EXPECT_THAT(error.what(), HasSubstr("under decision 3"));
  }
}

TEST_F(DynamicMixtureTest, DecisionThatDoesNotFitTheDataset_IsRefusedAtTheStart) {
  Journal journal;
  journal.decided = {{.version = 1, .step = 3, .first_sample = 24, .weights = {0.5}}};
  RecordingObserver observer;
  EXPECT_THROW(Train(NewRun("a", journal), observer), std::invalid_argument);
}

}  // namespace
}  // namespace moe::training
