#include "worker/rank/failure.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <new>
#include <stdexcept>

#include "common/status.h"
#include "worker/parallel/communicator.h"
#include "worker/training/trainer.h"

namespace moe::rank {
namespace {

using ::testing::HasSubstr;

Failure FailureOfThrowing(const std::function<void()>& work) {
  try {
    work();
  } catch (...) {
    return CurrentExceptionFailure();
  }
  return {"nothing thrown", ""};
}

TEST(FailureTest, BadInput_IsTold) {
  EXPECT_EQ(FailureOf(InvalidArgument("a")).cause, "CAUSE_BAD_INPUT");
  EXPECT_EQ(FailureOf(NotFound("a")).cause, "CAUSE_BAD_INPUT");
  EXPECT_EQ(FailureOf(DataLoss("a")).cause, "CAUSE_BAD_INPUT");
  EXPECT_EQ(FailureOfThrowing([] { throw std::invalid_argument("steps=0"); }).cause,
            "CAUSE_BAD_INPUT");
}

TEST(FailureTest, FullDisk_IsStorage) {
  const Failure failure = FailureOf(ErrnoStatus(ENOSPC, "write /srv/moe/x"));
  EXPECT_EQ(failure.cause, "CAUSE_STORAGE");
  EXPECT_THAT(failure.error, HasSubstr("/srv/moe/x"));
  EXPECT_EQ(
      FailureOfThrowing([] { throw training::CheckpointError(ResourceExhausted("full")); }).cause,
      "CAUSE_STORAGE");
}

TEST(FailureTest, CheckpointOfAnotherModel_IsBadInput) {
  EXPECT_EQ(
      FailureOfThrowing([] { throw training::CheckpointError(InvalidArgument("other")); }).cause,
      "CAUSE_BAD_INPUT");
}

TEST(FailureTest, DamagedCheckpoint_HasItsOwnCause) {
  EXPECT_EQ(FailureOfThrowing([] { throw training::DamagedCheckpoint(DataLoss("CRC")); }).cause,
            "CAUSE_DAMAGED_CHECKPOINT");
}

TEST(FailureTest, TensorThatDoesNotFitInMemory_IsOutOfMemory) {
  const Failure failure = FailureOfThrowing([] { at::empty({int64_t{1} << 52}, at::kFloat); });
  EXPECT_EQ(failure.cause, "CAUSE_OUT_OF_MEMORY");
  EXPECT_EQ(FailureOfThrowing([] { throw std::bad_alloc(); }).cause, "CAUSE_OUT_OF_MEMORY");
}

TEST(FailureTest, ShapesThatDoNotMatch_AreInternalWithoutABacktrace) {
  const Failure failure = FailureOfThrowing([] { at::mm(at::zeros({2, 3}), at::zeros({2, 3})); });
  EXPECT_EQ(failure.cause, "CAUSE_INTERNAL");
  EXPECT_THAT(failure.error, HasSubstr("2x3"));
  EXPECT_THAT(failure.error, testing::Not(HasSubstr("frame #")));
}

TEST(FailureTest, LostRankAndBrokenNumbers_HaveTheirOwnCauses) {
  EXPECT_EQ(FailureOfThrowing([] { throw parallel::CollectiveError("timed out"); }).cause,
            "CAUSE_COLLECTIVE_FAILED");
  EXPECT_EQ(FailureOfThrowing([] { throw training::NonFiniteLoss("step 3: loss=nan"); }).cause,
            "CAUSE_NON_FINITE_LOSS");
  EXPECT_EQ(FailureOfThrowing([] { throw training::LossSpike("step 3: loss=9"); }).cause,
            "CAUSE_LOSS_SPIKE");
  EXPECT_EQ(FailureOfThrowing([] { throw std::runtime_error("?"); }).cause, "CAUSE_INTERNAL");
  EXPECT_EQ(FailureOfThrowing([] { throw 1; }).cause, "CAUSE_INTERNAL");
}

}  // namespace
}  // namespace moe::rank
