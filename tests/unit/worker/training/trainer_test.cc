#include "worker/training/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>
#include <optional>
#include <string>

#include "common/file.h"
#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/worker/parallel/run_ranks.h"
#include "tests/unit/worker/training/tiny_run.h"
#include "worker/parallel/single_rank.h"
#include "worker/training/checkpoint_reader.h"

namespace moe::training {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr int64_t kCollectiveTimeoutMs = 60'000;

// Reads everything of a checkpoint as one rank would.
LoadedState Load(const WrittenCheckpoint& checkpoint) {
  const model::ParameterLayout layout(TinyMoe());
  auto state = LoadCheckpoint(checkpoint.path, checkpoint.manifest_crc32c, layout,
                              {{0, layout.arena_numel()}});
  if (!state.ok()) throw std::runtime_error(Message(state.status()));
  return *std::move(state);
}

class TrainerTest : public testing::Test {
 protected:
  TrainerTest() { WriteTinyDataset(folder_.File("dataset")); }

  TinyRun NewRun(const std::string& attempt) const {
    return {.dataset_folder = folder_.File("dataset"), .checkpoint_folder = folder_.File(attempt)};
  }

  const TemporaryFolder folder_;
};

TEST_F(TrainerTest, Run_LearnsAndReportsEveryStep) {
  TinyRun run = NewRun("a");
  run.steps = 30;
  RecordingObserver observer;
  const TrainResult result = Train(run, observer);

  EXPECT_EQ(result.stopped, StopReason::kNone);
  EXPECT_EQ(result.step, 30);
  EXPECT_EQ(result.tokens, 30 * 8 * 32);
  ASSERT_THAT(observer.steps, SizeIs(30));
  const StepReport &first = observer.steps.front(), &last = observer.steps.back();
  EXPECT_LT(last.loss, first.loss - 1.0) << "successors are predictable three times out of four";
  EXPECT_EQ(first.learning_rate, 0.5e-2) << "step 1 of 2 warm-up steps";
  EXPECT_EQ(last.tokens, result.tokens);
  EXPECT_EQ(last.loss, result.last_loss);

  const int64_t batch_tokens = 8 * 32;
  ASSERT_THAT(first.routing, SizeIs(2));
  for (const model::LayerRouting& layer : first.routing) {
    EXPECT_EQ(std::accumulate(layer.load.begin(), layer.load.end(), int64_t{0}),
              batch_tokens * TinyMoe().moe.top_k);
    EXPECT_NEAR(std::accumulate(layer.importance.begin(), layer.importance.end(), 0.0),
                batch_tokens, 1e-2)
        << "the scores of a token sum to 1";
  }
  ASSERT_THAT(last.domains, SizeIs(2));
  EXPECT_EQ(last.domains[0].name, "c4");
  EXPECT_EQ(last.domains[0].samples + last.domains[1].samples, 30 * 8);
  EXPECT_GT(last.domains[0].samples, last.domains[1].samples) << "weights are 0.7 and 0.3";
}

TEST_F(TrainerTest, Run_DomainLosses_AverageToTheLoss) {
  RecordingObserver observer;
  Train(NewRun("a"), observer);
  std::array<int64_t, 2> before = {};
  for (const StepReport& step : observer.steps) {
    double sum = 0;
    for (size_t i = 0; i < 2; ++i) {
      const int64_t samples = step.domains[i].samples - before[i];
      EXPECT_EQ(step.domains[i].loss.has_value(), samples > 0);
      sum += static_cast<double>(samples) * step.domains[i].loss.value_or(0);
      before[i] = step.domains[i].samples;
    }
    EXPECT_NEAR(sum / 8, step.loss, 1e-9);
  }
}

TEST_F(TrainerTest, Resume_WithDocumentsApart_SameBitsAsTheUndisturbedRun) {
  TinyRun undisturbed = NewRun("a");
  undisturbed.attention = evaluation::AttentionScope::kDocument;
  undisturbed.checkpoint_interval_steps = 3;
  undisturbed.validation = {.interval_steps = 2, .heldout_samples = 4};
  RecordingObserver apart;
  Train(undisturbed, apart);
  ASSERT_THAT(apart.checkpoints, SizeIs(2));

  TinyRun resumed = undisturbed;
  resumed.checkpoint_folder = folder_.File("b");
  resumed.resume = apart.checkpoints[0];
  RecordingObserver rest;
  Train(resumed, rest);
  const std::vector<std::string> all = Fingerprints(apart.steps);
  EXPECT_EQ(Fingerprints(rest.steps), std::vector<std::string>(all.begin() + 3, all.end()));

  TinyRun whole = undisturbed;
  whole.checkpoint_folder = folder_.File("c");
  whole.attention = evaluation::AttentionScope::kSample;
  RecordingObserver together;
  Train(whole, together);
  EXPECT_EQ(together.steps[0].batch_crc32c, apart.steps[0].batch_crc32c) << "the same samples";
  EXPECT_NE(together.steps[0].loss, apart.steps[0].loss);
  EXPECT_NE(together.steps[1].domains[0].heldout_loss, apart.steps[1].domains[0].heldout_loss);
  EXPECT_GT(together.steps[0].model_flops_per_second * together.steps[0].step_seconds,
            apart.steps[0].model_flops_per_second * apart.steps[0].step_seconds)
      << "attention within documents is less arithmetic";
}

class TrainerComputeTest : public TrainerTest,
                           public testing::WithParamInterface<model::ComputeType> {};
INSTANTIATE_TEST_SUITE_P(Fp32AndBf16, TrainerComputeTest,
                         testing::Values(model::ComputeType::kFp32, model::ComputeType::kBf16),
                         [](const auto& info) {
                           return info.param == model::ComputeType::kFp32 ? "Fp32" : "Bf16";
                         });

TEST_P(TrainerComputeTest, Resume_SameWorldSize_SameBitsAsTheUndisturbedRun) {
  TinyRun undisturbed = NewRun("a");
  undisturbed.compute = GetParam();
  undisturbed.checkpoint_interval_steps = 3;
  RecordingObserver whole;
  Train(undisturbed, whole);
  ASSERT_THAT(whole.checkpoints, SizeIs(2));
  ASSERT_EQ(whole.checkpoints[0].step, 3);

  TinyRun resumed = undisturbed;
  resumed.checkpoint_folder = folder_.File("b");
  resumed.resume = whole.checkpoints[0];
  RecordingObserver rest;
  Train(resumed, rest);

  const std::vector<std::string> expected = Fingerprints(whole.steps);
  EXPECT_EQ(Fingerprints(rest.steps),
            std::vector<std::string>(expected.begin() + 3, expected.end()));
  const LoadedState a = Load(whole.checkpoints.back()), b = Load(rest.checkpoints.back());
  EXPECT_TRUE(a.parameters.equal(b.parameters));
  EXPECT_TRUE(a.exp_avg.equal(b.exp_avg));
  EXPECT_TRUE(a.exp_avg_sq.equal(b.exp_avg_sq));
}

// Everything a rank adds up itself is added in the order of the global batch whatever the number of
// ranks; only the gradient's sum has another order, so steps after the first differ by rounding.
void ExpectSameWithin(double tolerance, const std::vector<StepReport>& a,
                      const std::vector<StepReport>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].step, b[i].step);
    EXPECT_EQ(a[i].batch_crc32c, b[i].batch_crc32c) << "step " << a[i].step;
    EXPECT_NEAR(a[i].loss, b[i].loss, tolerance * a[i].loss) << "step " << a[i].step;
    EXPECT_NEAR(a[i].gradient_norm, b[i].gradient_norm, 100 * tolerance * a[i].gradient_norm);
    EXPECT_EQ(a[i].domains[0].samples, b[i].domains[0].samples);
  }
}

TEST_P(TrainerComputeTest, TwoRanks_SameBatches_LossesWithinRounding) {
  const double tolerance = GetParam() == model::ComputeType::kFp32 ? 1e-5 : 1e-2;
  TinyRun run = NewRun("a");
  run.compute = GetParam();
  run.checkpoint_interval_steps = 3;
  RecordingObserver one, two, silent;
  Train(run, one);
  run.checkpoint_folder = folder_.File("b");
  parallel::RunRanks(2, kCollectiveTimeoutMs, [&](parallel::Communicator& communicator) {
    const TrainResult result = Train(run, communicator, communicator.rank() == 0 ? two : silent);
    EXPECT_EQ(result.step, 6);
    EXPECT_EQ(result.stopped, StopReason::kNone);
  });
  ExpectSameWithin(tolerance, one.steps, two.steps);
  EXPECT_EQ(one.steps[0].loss, two.steps[0].loss) << "equal parameters, equal bits";
  EXPECT_THAT(silent.steps, IsEmpty()) << "rank 0 reports for all";
  EXPECT_THAT(silent.checkpoints, IsEmpty());

  // From two ranks to one, and from one to two, half-way.
  ASSERT_EQ(two.checkpoints[0].step, 3);
  EXPECT_EQ(two.checkpoints[0].metadata.at("world_size"), 2);
  run.checkpoint_folder = folder_.File("c");
  run.resume = two.checkpoints[0];
  RecordingObserver one_after_two;
  Train(run, one_after_two);
  ExpectSameWithin(tolerance, {one.steps.begin() + 3, one.steps.end()}, one_after_two.steps);

  run.checkpoint_folder = folder_.File("d");
  run.resume = one.checkpoints[0];
  RecordingObserver two_after_one;
  parallel::RunRanks(2, kCollectiveTimeoutMs, [&](parallel::Communicator& communicator) {
    Train(run, communicator, communicator.rank() == 0 ? two_after_one : silent);
  });
  ExpectSameWithin(tolerance, {one.steps.begin() + 3, one.steps.end()}, two_after_one.steps);
}

TEST_F(TrainerTest, Cancel_StopsAfterTheStepWithoutACheckpoint) {
  RecordingObserver observer;
  observer.StopDuringStep(3, StopReason::kCancel);
  const TrainResult result = Train(NewRun("a"), observer);
  EXPECT_EQ(result.stopped, StopReason::kCancel);
  EXPECT_EQ(result.step, 3);
  EXPECT_THAT(observer.checkpoints, IsEmpty());
  EXPECT_FALSE(FileExists(folder_.File("a")));
}

TEST_F(TrainerTest, Drain_WritesACheckpointFromWhichTheRunGoesOnExactly) {
  RecordingObserver whole, drained, rest;
  Train(NewRun("a"), whole);
  TinyRun run = NewRun("b");
  drained.StopDuringStep(4, StopReason::kDrain);
  EXPECT_EQ(Train(run, drained).stopped, StopReason::kDrain);
  ASSERT_THAT(drained.checkpoints, SizeIs(1));
  EXPECT_EQ(drained.checkpoints[0].step, 4);

  run.checkpoint_folder = folder_.File("c");
  run.resume = drained.checkpoints[0];
  Train(run, rest);
  std::vector<std::string> both = Fingerprints(drained.steps);
  for (const std::string& step : Fingerprints(rest.steps)) both.push_back(step);
  EXPECT_EQ(both, Fingerprints(whole.steps));
}

TEST_F(TrainerTest, StopToldToOneRank_AllRanksStopAfterTheSameStep) {
  RecordingObserver observers[2];
  observers[0].StopDuringStep(4, StopReason::kDrain);
  observers[1].StopDuringStep(2, StopReason::kLeaseExpired);
  parallel::RunRanks(2, kCollectiveTimeoutMs, [&](parallel::Communicator& communicator) {
    const TrainResult result = Train(NewRun("a"), communicator, observers[communicator.rank()]);
    EXPECT_EQ(result.stopped, StopReason::kLeaseExpired);
    EXPECT_EQ(result.step, 2);
  });
}

TEST_F(TrainerTest, NanInAWeight_IsNamedBeforeTheFirstStep) {
  TinyRun run = NewRun("a");
  run.spoil = [](const model::ParameterLayout& layout, at::Tensor& parameters) {
    parameters[layout.Find("layers.1.ffn_norm").offset + 3].fill_(
        std::numeric_limits<float>::quiet_NaN());
  };
  RecordingObserver observer;
  try {
    Train(run, observer);
    FAIL() << "trained on NaN";
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), HasSubstr("layers.1.ffn_norm has 1 value of 64 that is not finite, "
                                        "the first at 3"));
  }
  EXPECT_THAT(observer.steps, IsEmpty());
}

class ResumeTest : public TrainerTest {
 protected:
  ResumeTest() {
    RecordingObserver observer;
    run_ = NewRun("a");
    run_.steps = 2;
    Train(run_, observer);
    checkpoint_ = observer.checkpoints.at(0);
    run_.resume = checkpoint_;
    run_.checkpoint_folder = folder_.File("b");
    run_.steps = 4;
  }

  // The status of the CheckpointError with which the resume ends.
  absl::Status Refusal() {
    RecordingObserver observer;
    try {
      Train(run_, observer);
    } catch (const CheckpointError& error) {
      return error.status();
    }
    return absl::OkStatus();
  }

  TinyRun run_;
  WrittenCheckpoint checkpoint_;
};

TEST_F(ResumeTest, FlippedBit_IsDataLossNamingTheFile) {
  const std::string path = checkpoint_.path + "/state-00000-of-00001.safetensors";
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(100'000);
  const int byte = file.peek();
  file.put(static_cast<char>(byte ^ 1));
  file.close();
  EXPECT_EQ(Refusal().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(Refusal()), HasSubstr("state-00000-of-00001.safetensors"));
}

TEST_F(ResumeTest, OtherManifest_IsDataLoss) {
  run_.resume->manifest_crc32c ^= 1;
  EXPECT_EQ(Refusal().code(), absl::StatusCode::kDataLoss);
}

TEST_F(ResumeTest, OtherSeed_IsRefusedNamingBoth) {
  run_.seed = 1;
  EXPECT_EQ(Refusal().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(Refusal()), AllOf(HasSubstr("seed 1227"), HasSubstr("seed 1:")));
}

TEST_F(ResumeTest, OtherDataset_IsRefused) {
  // The same tokens under another manifest.
  std::filesystem::copy(run_.dataset_folder, folder_.File("other"),
                        std::filesystem::copy_options::recursive);
  const std::string manifest = folder_.File("other") + "/manifest.json";
  std::ofstream(manifest, std::ios::app) << "\n";
  run_.dataset_folder = folder_.File("other");
  EXPECT_EQ(Refusal().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(Refusal()), HasSubstr("dataset"));
}

TEST_F(ResumeTest, AfterTheLastStep_IsDoneAtOnce) {
  run_.steps = 2;
  RecordingObserver observer;
  const TrainResult result = Train(run_, observer);
  EXPECT_EQ(result.stopped, StopReason::kNone);
  EXPECT_EQ(result.step, 2);
  EXPECT_THAT(observer.steps, IsEmpty());
  EXPECT_THAT(observer.checkpoints, IsEmpty());
}

TEST_F(TrainerTest, Validate_BatchThatRanksCannotShare_NamesValuesAndFix) {
  const auto dataset = sampler::Dataset::Open(folder_.File("dataset"));
  ASSERT_TRUE(dataset.ok());
  const model::Model model(TinyMoe(), {.compute = model::ComputeType::kFp32});
  TinyRun run = NewRun("a");
  run.global_batch_samples = 10;
  EXPECT_TRUE(Validate(ToOptions(run), model, **dataset, 1).ok());
  const absl::Status status = Validate(ToOptions(run), model, **dataset, 2);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(status), AllOf(HasSubstr("global_batch_samples=10"), HasSubstr("2 ranks"),
                                     HasSubstr("use 8")));

  TrainOptions too_long = ToOptions(NewRun("a"));
  too_long.sequence_length = 65;
  EXPECT_THAT(Message(Validate(too_long, model, **dataset, 1)),
              AllOf(HasSubstr("sequence_length=65"), HasSubstr("64")));
}

}  // namespace
}  // namespace moe::training
