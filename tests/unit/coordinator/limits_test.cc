// Time limits, standing still, and budgets of retries through the coordinator's state.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core_fixture.h"

namespace moe::coordinator {
namespace {

using ::testing::HasSubstr;
using Kind = v1::SessionResponse::MessageCase;

class LimitsTest : public CoreFixture {
 protected:
  void Submit1(const v1::JobSpec& spec) {
    const auto answer = Submit({spec}, spec.name());
    ASSERT_TRUE(answer.ok()) << answer.status();
  }
  // A train job that reads files, so that nothing has to run before it.
  static v1::JobSpec Training(const std::string& name, int slots = 1) {
    v1::JobSpec spec = TrainJob(name, "", "");
    spec.mutable_train()->mutable_model()->set_path("/models/m.gguf");
    spec.mutable_train()->mutable_dataset()->set_path("/data/corpus");
    spec.mutable_train()->set_global_batch_samples(8);
    spec.mutable_resources()->set_slots(slots);
    return spec;
  }
  // Time passes, the worker being heard of in between.
  void Pass(const std::string& worker, int64_t millis) {
    for (; millis > 0; millis -= 5000) {
      Advance(std::min<int64_t>(millis, 5000));
      Heartbeat(worker);
    }
  }
  void StepOf(RankOutbox& rank, int64_t step, double seconds) {
    v1::RankReport report;
    report.mutable_step()->set_step(step);
    report.mutable_step()->set_loss(1.0 / static_cast<double>(step));
    report.mutable_step()->set_step_seconds(seconds);
    Report(rank, report);
  }
  void Pulse(const RankOutbox& rank, int64_t done, const std::string& phase, bool silent = false) {
    v1::RankPulses pulses;
    v1::RankPulse& pulse = *pulses.add_pulses();
    *pulse.mutable_attempt() = RefOf(rank);
    pulse.set_rank(rank.rank);
    pulse.set_done(done);
    pulse.set_phase(phase);
    pulse.set_silent(silent);
    queue_->Change([&](Turn& turn) { supervisor_->OnPulses(turn, rank.worker, pulses); });
  }
};

TEST_F(LimitsTest, TimeLimit_IsToldBeforeItIsReachedAndEndsTheJob) {
  Connect("w1", 1);
  v1::JobSpec spec = Training("train");
  spec.set_time_limit_seconds(100);
  Submit1(spec);
  RankOutbox rank{.worker = "w1", .job = "j1"};
  Started(rank);
  Pass("w1", 89'000);
  EXPECT_TRUE(Sent("w1", Kind::kStop).empty());
  Pass("w1", 1'000);
  ASSERT_EQ(Sent("w1", Kind::kStop).size(), 1u);
  EXPECT_EQ(Sent("w1", Kind::kStop)[0].stop().reason(), "drain") << "a checkpoint is written";
  EXPECT_EQ(Sent("w1", Kind::kStop)[0].stop().grace_ms(), 10'000);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_STOPPING);
  Artefact(rank, "step-00000010", 10);
  Exited(rank, 0, 0);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_FAILED);
  EXPECT_EQ(Job("j1").cause(), v1::CAUSE_TIME_LIMIT);
  EXPECT_THAT(Job("j1").reason(), HasSubstr("time_limit_seconds=100"));
  EXPECT_EQ(Job("j1").outputs_size(), 1) << "what was written in time is kept";
}

TEST_F(LimitsTest, TimeLimit_CountsAllAttemptsAndSurvivesARestart) {
  Connect("w1", 1);
  v1::JobSpec spec = Training("train");
  spec.set_time_limit_seconds(100);
  spec.set_time_limit_notice_seconds(20);
  Submit1(spec);
  RankOutbox first{.worker = "w1", .job = "j1"};
  Started(first);
  Pass("w1", 50'000);
  ASSERT_TRUE(Preempt("j1").ok());
  Exited(first, 0, 0);
  ASSERT_EQ(Job("j1").attempt(), 2);
  RankOutbox second{.worker = "w1", .job = "j1", .attempt = 2};
  Started(second);
  Pass("w1", 10'000);
  RestartCoordinator();
  Connect("w1", 1, {{"j1", 2}});
  Pass("w1", 19'000);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_RUNNING);
  Pass("w1", 1'000);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_STOPPING);
  // The wish to stop is repeated as what it is.
  RestartCoordinator();
  Connect("w1", 1, {{"j1", 2}});
  EXPECT_EQ(Sent("w1", Kind::kStop)[0].stop().reason(), "drain");
}

TEST_F(LimitsTest, TimeLimit_AJobThatIsDoneInTimeSucceeds) {
  Connect("w1", 1);
  v1::JobSpec spec = PrepareJob("corpus");
  spec.set_time_limit_seconds(100);
  Submit1(spec);
  RankOutbox rank{.worker = "w1", .job = "j1"};
  Started(rank);
  Pass("w1", 95'000);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_STOPPING);
  Artefact(rank, "", 0);
  Finished(rank);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(LimitsTest, AHungRank_IsNamedKilledAndReplacedWithinTenStepsAndFiveSeconds) {
  Connect("w1", 1);
  Connect("w2", 1);
  Submit1(Training("train", 2));
  ASSERT_EQ(Job("j1").placements_size(), 2);
  RankOutbox zero{.worker = "w1", .job = "j1"}, one{.worker = "w2", .job = "j1", .rank = 1};
  Started(zero);
  Started(one);
  for (int64_t step = 1; step <= 5; ++step) {
    Advance(500);
    StepOf(zero, step, 0.5);
  }
  Pulse(zero, 5, "waits for the other ranks");
  Pulse(one, 5, "step");
  int64_t waited = 0;
  while (State("j1") == v1::JOB_STATE_RUNNING && waited < 60'000) {
    Advance(100);
    waited += 100;
  }
  EXPECT_LT(waited, 10 * 500 + 5000);
  EXPECT_GT(waited, 3 * 500) << "a slow step is no standstill";
  EXPECT_EQ(Job("j1").cause(), v1::CAUSE_HUNG);
  EXPECT_THAT(Job("j1").reason(), HasSubstr("rank 1 on w2 stands still, after step 5 in 'step'"));
  EXPECT_EQ(Sent("w2", Kind::kStop).back().stop().grace_ms(), 0);
  Exited(zero, -1, 9);
  Exited(one, -1, 9);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(Job("j1").infrastructure_failures(), 1);
  const auto goodput = supervisor_->ledger().OfJob(*jobs_->Find("j1"), clock_.MonotonicMillis());
  ASSERT_TRUE(goodput.ok());
  EXPECT_NEAR(goodput->slot_seconds().hung(), 2 * static_cast<double>(waited) / 1000, 0.01);
  Heartbeat("w1");
  Heartbeat("w2");
  Advance(1000);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_STARTING);
}

TEST_F(LimitsTest, ARankWhoseProcessStopped_IsNamedThoughItLastSaidThatItWaits) {
  Connect("w1", 2);
  Submit1(Training("train", 2));
  RankOutbox zero{.worker = "w1", .job = "j1"}, one{.worker = "w1", .job = "j1", .rank = 1};
  Started(zero);
  Started(one);
  for (int64_t step = 1; step <= 5; ++step) {
    Advance(500);
    StepOf(zero, step, 0.5);
  }
  Pulse(zero, 5, "waits for the other ranks");
  Pulse(one, 5, "waits for the other ranks");
  Pass("w1", 20'000);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_RUNNING) << "all wait: that is the network";
  Pulse(one, 5, "checkpoint");
  Pass("w1", 20'000);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_RUNNING) << "a checkpoint takes the time that it takes";
  Pulse(one, 5, "checkpoint", /*silent=*/true);
  Advance(1);
  EXPECT_EQ(Job("j1").cause(), v1::CAUSE_HUNG);
  EXPECT_THAT(Job("j1").reason(), HasSubstr("rank 1 on w1 stands still, its process does not run"));
}

TEST_F(LimitsTest, ACheckpointOrRanksThatSayNothing_AreNoStandstill) {
  Connect("w1", 1);
  Submit1(Training("train"));
  RankOutbox rank{.worker = "w1", .job = "j1"};
  Started(rank);
  for (int64_t step = 1; step <= 5; ++step) {
    Advance(500);
    StepOf(rank, step, 0.5);
  }
  Pass("w1", 60'000);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_RUNNING) << "it never said what it is at";
  Pulse(rank, 5, "checkpoint");
  Pass("w1", 60'000);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_RUNNING);
  Pulse(rank, 5, "step");
  Pass("w1", 60'000);
  EXPECT_EQ(Job("j1").cause(), v1::CAUSE_HUNG);
}

TEST_F(LimitsTest, AUsersMistake_IsTriedAgainWhereTheJobSaysSo) {
  Connect("w1", 1);
  v1::JobSpec spec = PrepareJob("corpus");
  spec.set_max_user_retries(1);
  Submit1(spec);
  RankOutbox first{.worker = "w1", .job = "j1"};
  Failed(first, v1::CAUSE_BAD_INPUT, "line 3 is no JSON");
  Exited(first, 1, 0);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(Job("j1").user_failures(), 1);
  Advance(1000);
  ASSERT_EQ(Job("j1").attempt(), 2);
  RankOutbox second{.worker = "w1", .job = "j1", .attempt = 2};
  Failed(second, v1::CAUSE_BAD_INPUT, "line 3 is no JSON");
  Exited(second, 1, 0);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_FAILED);
  EXPECT_EQ(Job("j1").reason(), "rank 0: line 3 is no JSON; no more attempts: max_user_retries=1");
  EXPECT_EQ(Job("j1").infrastructure_failures(), 0);
}

TEST_F(LimitsTest, PreemptedAsOftenAsItMay_KeepsItsSlots) {
  Connect("w1", 1);
  v1::JobSpec spec = Training("patient");
  spec.set_max_preemptions(1);
  Submit1(spec);
  RankOutbox first{.worker = "w1", .job = "j1"};
  Started(first);
  Pass("w1", 35'000);
  v1::JobSpec urgent = PrepareJob("urgent");
  urgent.set_priority(5);
  Submit1(urgent);
  ASSERT_EQ(State("j1"), v1::JOB_STATE_STOPPING);
  Exited(first, 0, 0);
  RunToSuccess("w1", "j2");
  ASSERT_EQ(Job("j1").attempt(), 2);
  RankOutbox second{.worker = "w1", .job = "j1", .attempt = 2};
  Started(second);
  Pass("w1", 35'000);
  urgent.set_name("urgent-too");
  Submit1(urgent);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_QUEUED);
}

// Every slot-second of a job's attempts, from the placements to the slots being free again.
TEST_F(LimitsTest, Goodput_AddsUpToTheTimeThatSlotsWereHeld) {
  Connect("w1", 2);
  Submit1(Training("train", 2));
  RankOutbox zero{.worker = "w1", .job = "j1"}, one{.worker = "w1", .job = "j1", .rank = 1};
  Advance(1500);
  Started(zero);
  Started(one);
  for (int64_t step = 1; step <= 4; ++step) {
    Advance(700);
    StepOf(zero, step, 0.5);
    if (step == 2) Artefact(zero, "step-00000002", 2);
  }
  Advance(300);
  Exited(zero, -1, 9);
  Advance(200);
  Exited(one, -1, 9);
  const int64_t first_held = 1500 + 4 * 700 + 300 + 200;
  Advance(1000);  // the back-off
  ASSERT_EQ(Job("j1").attempt(), 2);
  RestartCoordinator();
  Connect("w1", 2, {{"j1", 2}});
  RankOutbox again{.worker = "w1", .job = "j1", .attempt = 2};
  RankOutbox peer{.worker = "w1", .job = "j1", .attempt = 2, .rank = 1};
  Started(again);
  Started(peer);
  Advance(2000);
  StepOf(again, 3, 0.5);  // once more: the checkpoint was of step 2
  Advance(600);
  StepOf(again, 4, 0.5);
  Advance(600);
  StepOf(again, 5, 0.5);
  const auto goodput = supervisor_->ledger().OfJob(*jobs_->Find("j1"), clock_.MonotonicMillis());
  ASSERT_TRUE(goodput.ok());
  ASSERT_EQ(goodput->attempts_size(), 2);
  EXPECT_NEAR(goodput->attempts(0).held_seconds(), static_cast<double>(first_held) / 1000, 1e-6);
  EXPECT_NEAR(goodput->attempts(1).held_seconds(), 3.2, 1e-6);
  EXPECT_NEAR(goodput->total_slot_seconds(), 2 * (static_cast<double>(first_held) / 1000 + 3.2),
              1e-6);
  const v1::SlotSeconds& time = goodput->slot_seconds();
  EXPECT_NEAR(time.recomputed(), 2 * 1.1, 1e-6);  // steps 3 and 4
  EXPECT_NEAR(time.restoring(), 2 * 1.5, 1e-6);
  EXPECT_GT(time.productive(), 0);
  EXPECT_NEAR(time.queued(), 2 * 1.0, 0.01);
}

}  // namespace
}  // namespace moe::coordinator
