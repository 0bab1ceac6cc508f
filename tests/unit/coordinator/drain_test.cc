// Workers that are given no more work: by an operator, or by jobs that failed there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core_fixture.h"

namespace moe::coordinator {
namespace {

class DrainTest : public CoreFixture {
 protected:
  absl::Status Drain(const std::string& worker, const std::string& reason) {
    absl::Status status;
    queue_->Change([&](Turn& turn) {
      status = workers_->Drain(turn, worker, reason, "ann");
      supervisor_->Wake();
    });
    return status;
  }
  absl::Status Undrain(const std::string& worker) {
    absl::Status status;
    queue_->Change([&](Turn& turn) {
      status = workers_->Undrain(turn, worker);
      supervisor_->Wake();
    });
    return status;
  }
  v1::Worker Worker(const std::string& worker) {
    return workers_->Get(worker, clock_.MonotonicMillis());
  }
};

TEST_F(DrainTest, Drained_GetsNoMoreWorkUntilUndrained) {
  Connect("w1", 1);
  ASSERT_TRUE(Drain("w1", "ECC errors").ok());
  ASSERT_TRUE(Submit({PrepareJob("a")}, "w").ok());
  EXPECT_EQ(State("j1"), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(Worker("w1").drain().reason(), "ECC errors");
  EXPECT_EQ(Worker("w1").drain().user(), "ann");
  ASSERT_TRUE(Undrain("w1").ok());
  EXPECT_EQ(State("j1"), v1::JOB_STATE_STARTING);
  EXPECT_FALSE(Worker("w1").has_drain());
  EXPECT_TRUE(Undrain("w1").ok()) << "again: nothing to do";
}

TEST_F(DrainTest, Drained_StaysSoOverARestart_AndWhatRunsThereGoesOn) {
  Connect("w1", 2);
  ASSERT_TRUE(Submit({PrepareJob("a")}, "w").ok());
  RankOutbox rank{.worker = "w1", .job = "j1"};
  Started(rank);
  ASSERT_TRUE(Drain("w1", "maintenance").ok());
  EXPECT_EQ(State("j1"), v1::JOB_STATE_RUNNING);
  RestartCoordinator();
  EXPECT_EQ(Worker("w1").drain().reason(), "maintenance");
  Connect("w1", 2, {{"j1", 1}});
  ASSERT_TRUE(Submit({PrepareJob("b")}, "w2").ok());
  EXPECT_EQ(State("j1"), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(State("j2"), v1::JOB_STATE_QUEUED);
  ASSERT_TRUE(Undrain("w1").ok());
  RestartCoordinator();
  Connect("w1", 2, {{"j1", 1}});
  EXPECT_EQ(State("j2"), v1::JOB_STATE_STARTING);
}

TEST_F(DrainTest, BadWishes_AreRefused) {
  Connect("node1", 1);
  EXPECT_EQ(Drain("node1", "").code(), absl::StatusCode::kInvalidArgument);
  const absl::Status unknown = Drain("nod1", "broken");
  EXPECT_EQ(unknown.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(unknown), ::testing::HasSubstr("did you mean 'node1'?"));
  EXPECT_EQ(Undrain("nod1").code(), absl::StatusCode::kNotFound);
}

TEST_F(DrainTest, AWorkerWhereAJobFailedTwice_IsAvoidedByItAlsoAfterARestart) {
  Connect("w1", 1);
  ASSERT_TRUE(Submit({PrepareJob("a")}, "w").ok());
  for (int attempt = 1; attempt <= 2; ++attempt) {
    ASSERT_EQ(State("j1"), v1::JOB_STATE_STARTING) << attempt;
    RankOutbox rank{.worker = "w1", .job = "j1", .attempt = attempt};
    Exited(rank, 0, 11);
    Advance(attempt == 1 ? 1000 : 0);
  }
  EXPECT_THAT(Job("j1").avoided_worker_ids(), ::testing::ElementsAre("w1"));
  RestartCoordinator();
  EXPECT_THAT(Job("j1").avoided_worker_ids(), ::testing::ElementsAre("w1"));
  Connect("w1", 1);
  Connect("w2", 1);
  Advance(2000);
  ASSERT_EQ(State("j1"), v1::JOB_STATE_STARTING);
  EXPECT_EQ(Job("j1").placements(0).worker_id(), "w2");
}

}  // namespace
}  // namespace moe::coordinator
