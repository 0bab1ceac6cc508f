// Runs in which something goes wrong: what the watch policy makes of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <set>
#include <span>
#include <stdexcept>
#include <string>

#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/worker/parallel/run_ranks.h"
#include "tests/unit/worker/training/tiny_run.h"
#include "worker/model/arena.h"
#include "worker/parallel/single_rank.h"
#include "worker/training/checkpoint_reader.h"
#include "worker/training/trainer.h"

namespace moe::training {
namespace {

using testing::Contains;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr int64_t kCollectiveTimeoutMs = 60'000;

// Passes everything on, but makes the gradient's sum of squares, the one lone number that ranks
// tell each other, NaN in the steps it is told.
class SpoilingCommunicator final : public parallel::Communicator {
 public:
  SpoilingCommunicator(parallel::Communicator& real, std::set<int64_t> steps)
      : real_(real), steps_(std::move(steps)) {}

  int rank() const override { return real_.rank(); }
  int world_size() const override { return real_.world_size(); }
  void AllReduceSum(at::Tensor& values) override { real_.AllReduceSum(values); }
  using Communicator::AllGather;
  using Communicator::ReduceScatterSum;
  void ReduceScatterSum(at::Tensor& values, parallel::Range within) override {
    real_.ReduceScatterSum(values, within);
  }
  void AllGather(at::Tensor& values, parallel::Range within) override {
    real_.AllGather(values, within);
  }
  void AllGatherBytes(const void* mine, size_t size, void* all) override {
    const double spoiled = std::numeric_limits<double>::quiet_NaN();
    const bool spoil = size == sizeof spoiled && steps_.contains(step());
    real_.AllGatherBytes(spoil ? &spoiled : mine, size, all);
  }
  void AllToAll(const void* send, std::span<const int64_t> send_bytes, void* receive,
                std::span<const int64_t> receive_bytes) override {
    real_.AllToAll(send, send_bytes, receive, receive_bytes);
  }
  void BroadcastBytes(void* data, size_t size, int root) override {
    real_.BroadcastBytes(data, size, root);
  }
  void Barrier() override { real_.Barrier(); }
  std::unique_ptr<parallel::Communicator> Split(const std::string& name,
                                                std::span<const int> members,
                                                int64_t timeout_ms) override {
    return real_.Split(name, members, timeout_ms);
  }

 private:
  parallel::Communicator& real_;
  const std::set<int64_t> steps_;
};

LoadedState Load(const WrittenCheckpoint& checkpoint) {
  const model::ParameterLayout layout(TinyMoe());
  auto state = LoadCheckpoint(checkpoint.path, checkpoint.manifest_crc32c, layout,
                              {{0, layout.arena_numel()}});
  if (!state.ok()) throw std::runtime_error(std::string(state.status().message()));
  return *std::move(state);
}

class TrainerWatchTest : public testing::Test {
 protected:
  TrainerWatchTest() { WriteTinyDataset(folder_.File("dataset")); }

  TinyRun NewRun(const std::string& attempt) const {
    return {.dataset_folder = folder_.File("dataset"), .checkpoint_folder = folder_.File(attempt)};
  }
  static TrainResult TrainSpoiled(const TinyRun& run, std::set<int64_t> steps,
                                  TrainObserver& observer) {
    parallel::SingleRankCommunicator one;
    SpoilingCommunicator communicator(one, std::move(steps));
    return Train(run, communicator, observer);
  }

  const TemporaryFolder folder_;
};

TEST_F(TrainerWatchTest, NonFiniteGradient_Skip_LeavesTheUpdateOutAndGoesOn) {
  TinyRun run = NewRun("a");
  run.checkpoint_interval_steps = 1;
  RecordingObserver observer;
  EXPECT_EQ(TrainSpoiled(run, {3}, observer).step, 6);
  ASSERT_THAT(observer.steps, SizeIs(6));
  EXPECT_EQ(observer.steps[2].skipped, "non_finite");
  EXPECT_EQ(observer.steps[3].skipped, "");
  EXPECT_THAT(observer.warnings, Contains(HasSubstr("step 3 non_finite: step 3: loss=")));
  const LoadedState before = Load(observer.checkpoints[1]), after = Load(observer.checkpoints[2]);
  EXPECT_TRUE(before.parameters.equal(after.parameters));
  EXPECT_TRUE(before.exp_avg.equal(after.exp_avg));
  EXPECT_FALSE(Load(observer.checkpoints[3]).parameters.equal(after.parameters));
}

TEST_F(TrainerWatchTest, NonFiniteGradient_Rollback_RestoresTheLastCheckpointOnEveryRank) {
  TinyRun run = NewRun("a");
  run.checkpoint_interval_steps = 2;
  run.watch.on_non_finite = WatchAction::kRollback;
  RecordingObserver observers[2];
  parallel::RunRanks(2, kCollectiveTimeoutMs, [&](parallel::Communicator& real) {
    SpoilingCommunicator communicator(real, {4});
    EXPECT_EQ(Train(run, communicator, observers[real.rank()]).step, 6);
  });
  const RecordingObserver& observer = observers[0];
  ASSERT_THAT(observer.checkpoints, SizeIs(3));
  EXPECT_EQ(observer.steps[3].skipped, "non_finite");
  EXPECT_THAT(observer.warnings, Contains(HasSubstr("those of step 2 again")));
  EXPECT_THAT(observers[1].warnings, IsEmpty());
  const LoadedState before = Load(observer.checkpoints[0]), after = Load(observer.checkpoints[1]);
  EXPECT_TRUE(before.parameters.equal(after.parameters)) << "step 3 is undone as well";
  EXPECT_TRUE(before.exp_avg_sq.equal(after.exp_avg_sq));
  EXPECT_EQ(after.progress.data_cursor.next_index, 4 * run.global_batch_samples)
      << "the data goes on";
}

TEST_F(TrainerWatchTest, Rollback_ResumedBeforeIt_GivesTheSameRun) {
  TinyRun run = NewRun("a");
  run.checkpoint_interval_steps = 2;
  run.watch.on_non_finite = WatchAction::kRollback;
  RecordingObserver whole;
  TrainSpoiled(run, {4}, whole);
  TinyRun resumed = run;
  resumed.checkpoint_folder = folder_.File("b");
  resumed.resume = whole.checkpoints[0];
  RecordingObserver rest;
  TrainSpoiled(resumed, {4}, rest);
  const std::vector<std::string> expected = Fingerprints(whole.steps);
  EXPECT_EQ(Fingerprints(rest.steps),
            std::vector<std::string>(expected.begin() + 2, expected.end()));
  EXPECT_TRUE(
      Load(whole.checkpoints.back()).parameters.equal(Load(rest.checkpoints.back()).parameters));
}

TEST_F(TrainerWatchTest, NonFiniteGradient_RollbackWithoutACheckpoint_SkipsAndSaysSo) {
  TinyRun run = NewRun("a");
  run.watch.on_non_finite = WatchAction::kRollback;
  RecordingObserver observer;
  EXPECT_EQ(TrainSpoiled(run, {2}, observer).step, 6);
  EXPECT_THAT(observer.warnings, Contains(HasSubstr("no checkpoint to go back to")));
}

TEST_F(TrainerWatchTest, NonFiniteGradient_Stop_NamesStepAndValues) {
  TinyRun run = NewRun("a");
  run.watch.on_non_finite = WatchAction::kStop;
  RecordingObserver observer;
  try {
    TrainSpoiled(run, {2}, observer);
    FAIL() << "went on";
  } catch (const NonFiniteLoss& error) {
    EXPECT_THAT(error.what(), HasSubstr("step 2: loss="));
    EXPECT_THAT(error.what(), HasSubstr("gradient_norm=nan"));
  }
  EXPECT_THAT(observer.steps, SizeIs(1));
}

TEST_F(TrainerWatchTest, EveryStepBad_StopsAtTheLimit) {
  TinyRun run = NewRun("a");
  run.steps = 20;
  run.watch.max_bad_steps = 3;
  RecordingObserver observer;
  try {
    TrainSpoiled(run, {4, 5, 6, 7, 8}, observer);
    FAIL() << "went on";
  } catch (const NonFiniteLoss& error) {
    EXPECT_THAT(error.what(), HasSubstr("3 bad steps in a row, watch.max_bad_steps=3"));
  }
  EXPECT_THAT(observer.steps, SizeIs(5));
}

// Every token has the same hidden state and the gates hardly any noise: one fixed choice of top_k.
void Collapse(const model::ParameterLayout& layout, at::Tensor& parameters) {
  const auto view = [&](const std::string& name) {
    return model::View(parameters, layout.Find(name));
  };
  at::Tensor embed = view("embed");
  embed.copy_(embed[0].clone().expand_as(embed));
  for (const std::string layer : {"layers.0.", "layers.1."}) {
    view(layer + "attn_out").zero_();
    at::Tensor noise = view(layer + "noise");
    noise.copy_(embed[0].mul(-1000.0).expand_as(noise));
    if (layer == "layers.1.") view("layers.0.experts.down").zero_();
  }
}

TEST_F(TrainerWatchTest, AllTokensToTheSameExperts_TrainsAndIsReported) {
  TinyRun run = NewRun("a");
  run.steps = 8;
  run.spoil = Collapse;
  run.watch.window_steps = 8;
  for (const char* group : {"embeddings", "attention", "ffn", "gates"}) {
    run.learning_rate_ratios[group] = 0;
  }
  RecordingObserver observer;
  EXPECT_EQ(Train(run, observer).step, 8);
  const std::vector<int64_t>& load = observer.steps[0].routing[0].load;
  EXPECT_THAT(load, Contains(8 * 32).Times(2)) << "two experts get every token";
  EXPECT_THAT(load, Contains(0).Times(2)) << "two get none";
  EXPECT_THAT(observer.warnings, Contains(HasSubstr("step 8 dead_experts: ")));
  EXPECT_THAT(observer.warnings, Contains(HasSubstr("layer 0 (2.0 of 4)")));
}

TEST_F(TrainerWatchTest, FrozenGroups_KeepTheirBitsAndCountNotInTheNorm) {
  TinyRun run = NewRun("a");
  RecordingObserver free_observer, frozen_observer;
  Train(run, free_observer);
  run.checkpoint_folder = folder_.File("b");
  run.learning_rate_ratios = {{"gates", 0.0}, {"attention", 0.0}, {"ffn", 0.5}};
  Train(run, frozen_observer);
  EXPECT_LT(frozen_observer.steps[0].gradient_norm, free_observer.steps[0].gradient_norm);

  const model::ParameterLayout layout(TinyMoe());
  const at::Tensor start = RandomParameters(TinyMoe());
  const at::Tensor end = Load(frozen_observer.checkpoints.back()).parameters;
  for (const model::Parameter& parameter : layout.parameters()) {
    const bool is_frozen = RatioOf(run.learning_rate_ratios, parameter) == 0;
    EXPECT_EQ(model::View(start, parameter).equal(model::View(end, parameter)), is_frozen)
        << parameter.name;
  }
}

}  // namespace
}  // namespace moe::training
