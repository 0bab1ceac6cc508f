// Experts shared out among ranks: the numbers are those of one rank that has them all.
#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "common/philox.h"
#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/worker/parallel/run_ranks.h"
#include "tests/unit/worker/training/tiny_run.h"
#include "worker/model/arena.h"
#include "worker/model/weights.h"
#include "worker/training/ownership.h"

namespace moe::training {
namespace {

using testing::SizeIs;

constexpr int64_t kTimeoutMs = 60'000;

enum class Text {
  kMixed,
  // One token all over, without noise: each goes to the same two of the four experts.
  kOneToken
};

// Experts with a shared one, a dense layer and a learned scale beside them.
artefacts::ModelConfig Config(Text text) {
  artefacts::ModelConfig config = TinyMoe();
  config.num_layers = 3;
  config.moe.dense_layers = {1};
  config.moe.shared_width = 32;
  config.moe.learn_scale = true;
  config.moe.add_noise = text == Text::kMixed;
  return config;
}

// Other tokens, and another number of them, on every rank.
model::Batch BatchOf(int rank, Text text) {
  model::Batch batch;
  PhiloxGenerator random(1227, RandomStream::kTest, 40 + static_cast<uint32_t>(rank));
  for (int sample = 0; sample < 2; ++sample) {
    const int64_t length = 20 + 7 * rank + sample;
    const model::Batch::Room room = batch.AddSample(length);
    for (int64_t t = 0; t < length; ++t) {
      room.tokens[t] = text == Text::kOneToken ? 7 : static_cast<int64_t>(random.Below(128));
    }
    for (int64_t t = 0; t + 1 < length; ++t) room.targets[t] = room.tokens[t + 1];
  }
  return batch;
}

struct Pass {
  model::BatchResult result;
  at::Tensor gradients;  // of the layout that it was made with
  double evaluated = 0;  // mean loss without noise
};

Pass Make(model::Model& model, int rank, Text text) {
  Pass pass{.result = {}, .gradients = at::zeros({model.layout().arena_numel()}, at::kFloat)};
  const model::NoiseContext noise = {.seed = 1227, .first_sample = 2 * rank};
  // Twice, so that what a pass leaves behind would show.
  for (int i = 0; i < 2; ++i) {
    pass.result = model.ForwardBackward(BatchOf(rank, text), noise,
                                        {.target = 0.01, .balance = 0.5}, pass.gradients);
  }
  pass.evaluated = model.Evaluate(BatchOf(rank, text)).MeanLoss();
  return pass;
}

class SharedExperts : public testing::TestWithParam<std::tuple<int, model::ComputeType, Text>> {
 protected:
  int ranks() const { return std::get<0>(GetParam()); }
  model::ComputeType compute() const { return std::get<1>(GetParam()); }
  Text text() const { return std::get<2>(GetParam()); }
  artefacts::ModelConfig config() const { return Config(text()); }

  // What each rank makes of its batch with a part of the experts.
  std::vector<Pass> MakeShared() const {
    std::vector<Pass> passes(static_cast<size_t>(ranks()));
    parallel::RunRanks(ranks(), kTimeoutMs, [&](parallel::Communicator& communicator) {
      const int rank = communicator.rank();
      const model::ExpertShare share = ShareOf(rank, ranks());
      model::Model model(config(), {.compute = compute(), .experts = share});
      model.ShareExperts(communicator.Split("experts", kTimeoutMs));
      model.SetParameters(RandomParameters(config(), share));
      passes[static_cast<size_t>(rank)] = Make(model, rank, text());
    });
    return passes;
  }
};
INSTANTIATE_TEST_SUITE_P(
    RanksTypesAndText, SharedExperts,
    testing::Combine(testing::Values(2, 4),
                     testing::Values(model::ComputeType::kFp32, model::ComputeType::kBf16),
                     testing::Values(Text::kMixed, Text::kOneToken)),
    [](const auto& info) {
      const bool is_fp32 = std::get<1>(info.param) == model::ComputeType::kFp32;
      return std::to_string(std::get<0>(info.param)) + (is_fp32 ? "Fp32" : "Bf16") +
             (std::get<2>(info.param) == Text::kMixed ? "Mixed" : "OneToken");
    });

TEST_P(SharedExperts, GradientsAndLosses_AreThoseOfOneRankWithAllExperts) {
  const double tolerance = compute() == model::ComputeType::kFp32 ? 2e-5 : 2e-2;
  const std::vector<Pass> shared = MakeShared();
  model::Model model(config(), {.compute = compute()});
  model.SetParameters(RandomParameters(config()));
  at::Tensor expected = at::zeros({model.layout().arena_numel()}, at::kFloat);
  at::Tensor sum = at::zeros({model.layout().arena_numel()}, at::kFloat);
  for (int rank = 0; rank < ranks(); ++rank) {
    const Pass one = Make(model, rank, text());
    expected.add_(one.gradients);
    const Pass& pass = shared[static_cast<size_t>(rank)];
    EXPECT_NEAR(pass.result.MeanLoss(), one.result.MeanLoss(), tolerance * one.result.MeanLoss());
    EXPECT_NEAR(pass.evaluated, one.evaluated, tolerance * one.evaluated);
    EXPECT_NEAR(pass.result.balance_loss, one.result.balance_loss, tolerance);
    ASSERT_THAT(pass.result.routing, SizeIs(3));
    EXPECT_EQ(pass.result.routing[0].load, one.result.routing[0].load);
    if (text() == Text::kOneToken) {
      EXPECT_EQ(std::ranges::count(pass.result.routing[0].load, 0), 2) << "experts without a row";
    }
    // A rank's gradients of its experts are of all ranks' tokens, those of the rest of its own.
    const model::ParameterLayout layout(config(), ShareOf(rank, ranks()));
    for (const model::Parameter& parameter : layout.parameters()) {
      sum.narrow(0, parameter.whole_offset, parameter.numel)
          .add_(pass.gradients.narrow(0, parameter.offset, parameter.numel));
    }
  }
  for (const model::Parameter& parameter : model.layout().parameters()) {
    const at::Tensor want = model::View(expected, parameter);
    const double error = (model::View(sum, parameter) - want).norm().item<double>();
    EXPECT_LE(error, tolerance * want.norm().item<double>() + 1e-12) << parameter.name;
  }
}

TEST(SharedExpertsTest, PassWithoutTheOthers_IsRefused) {
  model::Model model(Config(Text::kMixed), {.experts = {.index = 0, .count = 2}});
  EXPECT_THROW(model.SetParameters(at::zeros({model.layout().arena_numel()}, at::kFloat)),
               std::logic_error);
}

class ExpertParallelRun : public testing::Test {
 protected:
  ExpertParallelRun() { WriteTinyDataset(folder_.File("dataset")); }

  TinyRun NewRun(const std::string& attempt, int64_t expert_parallel) const {
    return {.dataset_folder = folder_.File("dataset"),
            .checkpoint_folder = folder_.File(attempt),
            .checkpoint_interval_steps = 3,
            .learning_rate_ratios = {{"attention", 0.5}, {"norms", 0.0}},
            .validation = {.interval_steps = 2, .heldout_samples = 3},
            .weight_average = {.decay = 0.75, .start_step = 2},
            .expert_parallel = expert_parallel};
  }

  // What rank 0 is told.
  static void TrainOn(int ranks, const TinyRun& run, RecordingObserver& observer) {
    RecordingObserver silent;
    parallel::RunRanks(ranks, kTimeoutMs, [&](parallel::Communicator& communicator) {
      Train(run, communicator, communicator.rank() == 0 ? observer : silent);
    });
  }

  static void ExpectSame(const std::vector<StepReport>& expected,
                         const std::vector<StepReport>& steps) {
    constexpr double kTolerance = 1e-5;
    ASSERT_EQ(steps.size(), expected.size());
    for (size_t i = 0; i < steps.size(); ++i) {
      const StepReport &a = expected[i], &b = steps[i];
      EXPECT_EQ(b.step, a.step);
      EXPECT_EQ(b.batch_crc32c, a.batch_crc32c) << "step " << a.step;
      EXPECT_NEAR(b.loss, a.loss, kTolerance * a.loss) << "step " << a.step;
      EXPECT_NEAR(b.balance_loss, a.balance_loss, kTolerance) << "step " << a.step;
      EXPECT_NEAR(b.gradient_norm, a.gradient_norm, 100 * kTolerance * a.gradient_norm);
      for (size_t d = 0; d < a.domains.size(); ++d) {
        ASSERT_EQ(b.domains[d].heldout_loss.has_value(), a.domains[d].heldout_loss.has_value());
        if (!a.domains[d].heldout_loss.has_value()) continue;
        EXPECT_NEAR(*b.domains[d].heldout_loss, *a.domains[d].heldout_loss, 2e-5);
      }
    }
  }

  static at::Tensor Load(const WrittenCheckpoint& checkpoint, model::WhichWeights which) {
    auto loaded = model::LoadModel(checkpoint.path, which);
    if (!loaded.ok()) throw std::runtime_error(ToString(loaded.status()));
    return loaded->parameters;
  }

  const TemporaryFolder folder_;
};

TEST_F(ExpertParallelRun, OnAnyRanks_TrainsAsOneRankDoes) {
  RecordingObserver one;
  TrainOn(1, NewRun("one", 1), one);
  ASSERT_THAT(one.checkpoints, SizeIs(2));
  const struct {
    int ranks;
    int64_t expert_parallel;
  } cases[] = {{2, 2}, {4, 2}, {4, 4}};
  for (const auto& [ranks, expert_parallel] : cases) {
    SCOPED_TRACE(std::to_string(ranks) + " ranks, groups of " + std::to_string(expert_parallel));
    RecordingObserver several;
    TrainOn(ranks, NewRun("s" + std::to_string(10 * ranks + expert_parallel), expert_parallel),
            several);
    ExpectSame(one.steps, several.steps);
    EXPECT_GT(several.steps.back().sent_bytes, 0);
    // The checkpoint is the whole model's, whoever wrote it.
    for (const auto which : {model::WhichWeights::kLatest, model::WhichWeights::kAverage}) {
      const at::Tensor want = Load(one.checkpoints[1], which);
      EXPECT_LT((Load(several.checkpoints.at(1), which) - want).norm().item<double>(),
                1e-3 * want.norm().item<double>());
    }
  }
}

TEST_F(ExpertParallelRun, StopsOnSomeRanks_GoesOnOnOthers) {
  RecordingObserver one, two;
  TrainOn(1, NewRun("one", 1), one);
  TrainOn(2, NewRun("two", 2), two);
  const std::vector<StepReport> rest(one.steps.begin() + 3, one.steps.end());
  const struct {
    const RecordingObserver* before;
    int ranks;
    int64_t expert_parallel;
  } cases[] = {{&two, 1, 1}, {&one, 2, 2}, {&two, 2, 1}, {&two, 4, 2}, {&two, 4, 4}};
  for (const auto& [before, ranks, expert_parallel] : cases) {
    const std::string name =
        std::to_string(ranks) + " ranks, groups of " + std::to_string(expert_parallel);
    SCOPED_TRACE((before == &one ? "from one to " : "from two to ") + name);
    TinyRun run = NewRun((before == &one ? "from one " : "from two ") + name, expert_parallel);
    run.resume = before->checkpoints.at(0);
    ASSERT_EQ(run.resume->step, 3);
    RecordingObserver after;
    TrainOn(ranks, run, after);
    ExpectSame(rest, after.steps);
  }
}

TEST_F(ExpertParallelRun, Resume_OnTheSameRanks_SameBits) {
  RecordingObserver whole, rest;
  TrainOn(2, NewRun("whole", 2), whole);
  TinyRun run = NewRun("rest", 2);
  run.resume = whole.checkpoints.at(0);
  TrainOn(2, run, rest);
  ASSERT_THAT(rest.steps, SizeIs(3));
  for (size_t i = 0; i < rest.steps.size(); ++i) {
    EXPECT_EQ(rest.steps[i].loss, whole.steps[i + 3].loss);
    EXPECT_EQ(rest.steps[i].balance_loss, whole.steps[i + 3].balance_loss);
    EXPECT_EQ(rest.steps[i].gradient_norm, whole.steps[i + 3].gradient_norm);
  }
  EXPECT_TRUE(Load(whole.checkpoints.back(), model::WhichWeights::kLatest)
                  .equal(Load(rest.checkpoints.back(), model::WhichWeights::kLatest)));
}

}  // namespace
}  // namespace moe::training
