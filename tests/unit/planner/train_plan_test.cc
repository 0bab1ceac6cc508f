#include "planner/train_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/published_shapes.h"

namespace moe::planner {
namespace {

using published::Llama7B;
using published::SmolLm2;
using published::Split;
using testing::AllOf;
using testing::HasSubstr;

TrainSetup SmolSetup() {
  return {.model = Split(SmolLm2(), 16, 4),
          .steps = 100,
          .sequence_length = 512,
          .global_batch_samples = 8,
          .micro_batch_samples = 4,
          .ranks = 1,
          .bf16 = false};
}

Machine Cpu(int64_t memory_bytes) {
  return {.name = "slot of w1, measured",
          .bf16 = {},
          .fp32 = {.dense_flops = 100e9,
                   .expert_flops = 80e9,
                   .attention_flops = 50e9,
                   .head_flops = 90e9},
          .memory_bytes_per_s = 20e9,
          .memory_bytes = memory_bytes,
          .is_measured = true};
}

int64_t PartOf(const TrainPlan& plan, const std::string& name) {
  for (const MemoryPart& part : plan.memory) {
    if (part.name == name) return part.bytes;
  }
  return -1;
}

TEST(TrainPlanTest, Memory_AddsUpAndKnowsTheArenas) {
  const TrainPlan plan = PlanTraining(SmolSetup(), Cpu(0));
  int64_t sum = 0;
  for (const MemoryPart& part : plan.memory) sum += part.bytes;
  EXPECT_EQ(plan.memory_bytes, sum);
  // Each arena is the parameters and a little padding.
  EXPECT_NEAR(static_cast<double>(PartOf(plan, "gradients")), 4.0 * plan.total_parameters, 1e5);
  EXPECT_EQ(PartOf(plan, "optimizer state"), 2 * PartOf(plan, "gradients"));
  EXPECT_EQ(PartOf(plan, "receive buffer"), -1) << "one rank receives nothing";
}

TEST(TrainPlanTest, MoreRanks_ShareTheOptimizerStateAndSendTwoNMinusOneOverN) {
  TrainSetup setup = SmolSetup();
  const TrainPlan one = PlanTraining(setup, Cpu(0));
  setup.ranks = 2;
  const TrainPlan two = PlanTraining(setup, Cpu(0));
  EXPECT_NEAR(static_cast<double>(PartOf(two, "optimizer state")),
              static_cast<double>(PartOf(one, "optimizer state")) / 2, 1e3);
  EXPECT_EQ(one.sent_bytes_per_step, 0);
  EXPECT_NEAR(static_cast<double>(two.sent_bytes_per_step), 2 * 0.5 * 4.0 * two.total_parameters,
              1e5);
  EXPECT_LT(two.step_seconds, one.step_seconds);
}

TEST(TrainPlanTest, ExpertParallel_HoldsAPartOfTheExpertsAndSendsTheirRows) {
  TrainSetup setup = SmolSetup();
  setup.ranks = 4;
  setup.micro_batch_samples = 2;
  const TrainPlan data = PlanTraining(setup, Cpu(0));
  setup.expert_parallel = 2;
  const TrainPlan experts = PlanTraining(setup, Cpu(0));
  EXPECT_EQ(experts.total_parameters, data.total_parameters);
  // Half of 30 layers x 16 experts x 3 matrices of 96 x 576 is gone; of what is left the experts'
  // optimizer state is shared by two ranks, the rest by four.
  const int64_t half = 30 * 8 * 3 * 96 * 576;
  EXPECT_EQ(PartOf(data, "gradients") - PartOf(experts, "gradients"), 4 * half);
  EXPECT_EQ(PartOf(data, "parameters") - PartOf(experts, "parameters"), 4 * half);
  EXPECT_EQ(PartOf(experts, "optimizer state"), PartOf(data, "optimizer state"))
      << "as many owners as before";
  EXPECT_GT(PartOf(experts, "activations"), PartOf(data, "activations"));
  EXPECT_EQ(data.all_to_all_bytes_per_step, 0);
  // 2 x 512 tokens, 30 layers, 4 experts each, half of them elsewhere: four rows of 576 and two
  // numbers, fp32.
  EXPECT_EQ(experts.all_to_all_bytes_per_step, 2 * 512 * 30 * 4 / 2 * (4 * 576 + 2) * 4);
  // 2 (R - 1) / R of what is replicated on four ranks and of experts on two.
  const int64_t replicated = PartOf(data, "gradients") - 4 * 2 * half;
  EXPECT_EQ(experts.sent_bytes_per_step - experts.all_to_all_bytes_per_step,
            2 * 3 * (replicated / 4) + 2 * 1 * (4 * half / 2));
}

TEST(TrainPlanTest, ExpertParallel_WaitsForItsRows) {
  TrainSetup setup = SmolSetup();
  setup.ranks = setup.expert_parallel = 2;
  Machine machine = Cpu(0);
  machine.link_bytes_per_s = 1e9;
  const TrainPlan plan = PlanTraining(setup, machine);
  EXPECT_GE(plan.exposed_seconds, static_cast<double>(plan.all_to_all_bytes_per_step) / 1e9);
}

TEST(TrainPlanTest, ModelWhoseExpertsDoNotFit_IsToldToShareThemOut) {
  TrainSetup setup = {.model = Split(Llama7B(), 16, 4),
                      .sequence_length = 512,
                      .global_batch_samples = 16,
                      .micro_batch_samples = 1,
                      .ranks = 8};
  const Machine machine = *NamedMachine("h100");
  const TrainPlan plan = PlanTraining(setup, machine);
  EXPECT_FALSE(plan.fits);
  EXPECT_THAT(DescribeMisfit(plan, setup, machine),
              HasSubstr("use slots=8, parallel.expert=8 and micro_batch_samples=1"));
}

TEST(TrainPlanTest, Time_IsTheSumOfItsParts) {
  const TrainPlan plan = PlanTraining(SmolSetup(), Cpu(0));
  const double flops = plan.flops_per_token * 8 * 512;
  EXPECT_GT(plan.step_seconds, flops / 100e9) << "nothing is faster than the fastest rate";
  EXPECT_LT(plan.step_seconds, 2 * flops / 50e9);
  EXPECT_DOUBLE_EQ(plan.duration_seconds, 100 * plan.step_seconds);
  // Two passes, and the optimizer.
  EXPECT_GT(plan.step_seconds, 2 * plan.micro_batch_seconds);
  EXPECT_DOUBLE_EQ(plan.tokens_per_second, 8 * 512 / plan.step_seconds);
}

TEST(TrainPlanTest, PassesThatTakeLongerThanTheirParts_LengthenTheStep) {
  const TrainPlan plan = PlanTraining(SmolSetup(), Cpu(0));
  Machine machine = Cpu(0);
  machine.fp32.pass_ratio = 1.5;
  const TrainPlan longer = PlanTraining(SmolSetup(), machine);
  EXPECT_DOUBLE_EQ(longer.micro_batch_seconds, 1.5 * plan.micro_batch_seconds);
  EXPECT_NEAR(longer.step_seconds - plan.step_seconds, plan.micro_batch_seconds, 1e-9);
}

TEST(TrainPlanTest, UnmeasuredMachine_HasNoTimes) {
  Machine machine = Cpu(0);
  machine.is_measured = false;
  EXPECT_EQ(PlanTraining(SmolSetup(), machine).step_seconds, 0);
}

TEST(TrainPlanTest, BatchThatDoesNotFit_IsToldWithASmallerOneThatDoes) {
  TrainSetup setup = SmolSetup();
  setup.micro_batch_samples = 8;
  const TrainPlan whole = PlanTraining(setup, Cpu(0));
  const Machine machine = Cpu(whole.memory_bytes - 1);
  const TrainPlan plan = PlanTraining(setup, machine);
  EXPECT_FALSE(plan.fits);
  EXPECT_THAT(DescribeMisfit(plan, setup, machine),
              AllOf(HasSubstr("a slot has"), HasSubstr("use micro_batch_samples=4")));
  ASSERT_EQ(plan.choices.size(), 4u);  // 1, 2, 4, 8
  EXPECT_TRUE(plan.choices[2].fits);
  EXPECT_FALSE(plan.choices[3].fits);
}

TEST(TrainPlanTest, ModelThatDoesNotFit_IsToldToUseMoreSlots) {
  TrainSetup setup = SmolSetup();
  setup.micro_batch_samples = 1;
  const Machine machine = Cpu(2'600'000'000);
  const TrainPlan plan = PlanTraining(setup, machine);
  EXPECT_FALSE(plan.fits);
  EXPECT_THAT(DescribeMisfit(plan, setup, machine), HasSubstr("use slots="));
}

TEST(TrainPlanTest, LlamaMoe3p5B_DoesNotTrainOnOneH100WithFullState) {
  const TrainSetup setup = {.model = Split(Llama7B(), 16, 4),
                            .sequence_length = 4096,
                            .global_batch_samples = 112,
                            .micro_batch_samples = 1,
                            .ranks = 1};
  const TrainPlan one = PlanTraining(setup, *NamedMachine("h100"));
  EXPECT_FALSE(one.fits);
  EXPECT_GT(one.memory_bytes, 18LL * one.total_parameters);
}

TEST(TrainPlanTest, UnknownMachine_IsNone) { EXPECT_FALSE(NamedMachine("abacus").has_value()); }

}  // namespace
}  // namespace moe::planner
