// start=continue: a job that goes on with the run of another one.
#include <gmock/gmock.h>

#include <functional>
#include <string>

#include "common/json.h"
#include "tests/unit/coordinator/core_fixture.h"

namespace moe::coordinator {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ContinueTest : public CoreFixture {
 protected:
  // train (j3) makes 40 steps, more (j4) goes on to 80 on two slots; both decide every 10 steps.
  void SubmitBoth(const std::function<void(v1::TrainSpec&)>& change_more = [](v1::TrainSpec&) {}) {
    v1::JobSpec train = TrainJob("train", "moe", "corpus");
    v1::DynamicMixture& dynamic = *train.mutable_train()->mutable_mixture()->mutable_dynamic();
    dynamic.set_interval_steps(10);
    (*dynamic.mutable_reference_losses())["wikipedia"] = 2.0;
    v1::JobSpec more = train;
    more.set_name("more");
    more.mutable_resources()->set_slots(2);
    more.mutable_train()->mutable_model()->set_artefact("train");
    more.mutable_train()->set_start("continue");
    more.mutable_train()->set_steps(80);
    change_more(*more.mutable_train());
    const auto answer = Submit({PrepareJob("corpus"), ConstructJob("moe"), train, more}, "wish");
    ASSERT_TRUE(answer.ok()) << answer.status();
    Connect("w1", 2);
    RunToSuccess("w1", "j1");
    RunToSuccess("w1", "j2");
    rank_ = {.worker = "w1", .job = "j3"};
    Started(rank_);
  }
  void Losses(RankOutbox& rank, int64_t step, double loss) {
    v1::RankReport report;
    v1::DomainLosses& losses = *report.mutable_domain_losses();
    losses.set_step(step);
    losses.set_next_sample(step * 8);
    losses.set_version(static_cast<int64_t>(sampler_->JournalOf(*ParseJobId(rank.job)).size()));
    v1::DomainLoss& domain = *losses.add_domains();
    domain.set_domain("wikipedia");
    domain.set_loss(loss);
    domain.set_weight(1);
    Report(rank, report);
  }
  // Ends j3 at step 40, with its checkpoint.
  void FinishTrain() {
    Artefact(rank_, "step-40", 40);
    Finished(rank_);
    Exited(rank_, 0, 0);
  }
  Json RunSpecOf(const std::string& job) {
    std::string text;
    for (const v1::SessionResponse& message : Sent("w1", v1::SessionResponse::kStart)) {
      if (message.start().attempt().job_id() == job) text = message.start().run_spec_json();
    }
    return Json::parse(text, nullptr, /*allow_exceptions=*/false);
  }

  RankOutbox rank_;
};

TEST_F(ContinueTest, StartsFromTheCheckpointWithTheDecisionsBeforeIt) {
  SubmitBoth();
  Losses(rank_, 10, 2.5);
  Losses(rank_, 20, 2.4);
  FinishTrain();
  const Json run = RunSpecOf("j4");
  EXPECT_EQ(run["world_size"], 2);
  EXPECT_EQ(run["resume"]["step"], 40);
  EXPECT_EQ(run["sampler"]["decisions"].size(), 2u);
  EXPECT_THAT(Replay(sampler_->JournalOf(4)), IsEmpty());
  // The next decision goes on with the numbers.
  RankOutbox more{.worker = "w1", .job = "j4"};
  Started(more);
  Losses(more, 50, 2.3);
  EXPECT_EQ(sampler_->JournalOf(4).back().version(), 3);
  EXPECT_EQ(sampler_->JournalOf(3).size(), 2u);
}

TEST_F(ContinueTest, DecisionsAfterTheCheckpoint_AreOfAnotherFuture) {
  SubmitBoth();
  Losses(rank_, 10, 2.5);
  Artefact(rank_, "step-15", 15);
  Losses(rank_, 20, 2.4);
  Finished(rank_);
  Exited(rank_, 0, 0);
  EXPECT_EQ(RunSpecOf("j4")["resume"]["step"], 15);
  EXPECT_EQ(sampler_->JournalOf(4).size(), 1u);
}

TEST_F(ContinueTest, CoordinatorRestart_KeepsWhatWasTakenOver) {
  SubmitBoth();
  Losses(rank_, 10, 2.5);
  FinishTrain();
  RestartCoordinator();
  ASSERT_EQ(sampler_->JournalOf(4).size(), 1u);
  EXPECT_EQ(sampler_->JournalOf(4).back().SerializeAsString(),
            sampler_->JournalOf(3).back().SerializeAsString());
}

TEST_F(ContinueTest, LaterAttempt_ResumesFromItsOwnCheckpoint) {
  SubmitBoth();
  FinishTrain();
  RankOutbox more{.worker = "w1", .job = "j4"};
  Started(more);
  Artefact(more, "step-60", 60);
  ASSERT_TRUE(Preempt("j4").ok());
  for (const int rank : {0, 1}) {
    RankOutbox outbox{.worker = "w1", .job = "j4", .rank = rank};
    Exited(outbox, 0, 9);
  }
  EXPECT_EQ(Job("j4").attempt(), 2);
  EXPECT_EQ(RunSpecOf("j4")["resume"]["step"], 60);
}

TEST_F(ContinueTest, OwnCheckpointIsDamaged_ResumesFromThatOfTheOtherJobOnceMore) {
  SubmitBoth();
  Losses(rank_, 10, 2.5);
  FinishTrain();
  RankOutbox more{.worker = "w1", .job = "j4"};
  Started(more);
  Losses(more, 50, 2.3);
  Artefact(more, "step-60", 60);
  const auto end_both = [&](int32_t attempt, v1::Cause cause) {
    for (const int rank : {0, 1}) {
      RankOutbox outbox{.worker = "w1", .job = "j4", .attempt = attempt, .rank = rank};
      if (attempt > 1) Started(outbox);
      if (attempt > 1) Failed(outbox, cause, "resuming");
      Exited(outbox, 1, 0);
    }
    Advance(3000);
  };
  end_both(1, v1::CAUSE_UNSPECIFIED);
  ASSERT_EQ(RunSpecOf("j4")["resume"]["step"], 60);
  end_both(2, v1::CAUSE_DAMAGED_CHECKPOINT);
  EXPECT_EQ(Job("j4").attempt(), 3);
  EXPECT_EQ(RunSpecOf("j4")["resume"]["step"], 40);
  // The decisions that it has made are made.
  EXPECT_EQ(sampler_->JournalOf(4).size(), 2u);
  // What another job made is not its to leave.
  end_both(3, v1::CAUSE_DAMAGED_CHECKPOINT);
  EXPECT_EQ(RunSpecOf("j4")["resume"]["step"], 40);
}

TEST_F(ContinueTest, PinnedWeights_StayPinned) {
  SubmitBoth();
  Losses(rank_, 10, 2.5);
  ASSERT_TRUE(Apply("j3", [&](Turn& turn, v1::JobRecord& record) {
                return sampler_->Pin(turn, record, "ann", {});
              }).ok());
  FinishTrain();
  EXPECT_EQ(jobs_->Find("j4")->sampler().pinned_weights().at("wikipedia"), 1);
  EXPECT_EQ(jobs_->Find("j4")->sampler().user(), "ann");
}

TEST_F(ContinueTest, DecisionsWithoutADynamicMixture_FailTheJobWithTheFix) {
  SubmitBoth([](v1::TrainSpec& more) { more.clear_mixture(); });
  Losses(rank_, 10, 2.5);
  FinishTrain();
  EXPECT_EQ(State("j4"), v1::JOB_STATE_FAILED);
  EXPECT_EQ(Job("j4").cause(), v1::CAUSE_BAD_INPUT);
  EXPECT_THAT(Job("j4").reason(), HasSubstr("made under 1 decisions on domain weights"));
  EXPECT_THAT(Job("j4").reason(), HasSubstr("mixture.dynamic"));
}

}  // namespace
}  // namespace moe::coordinator
