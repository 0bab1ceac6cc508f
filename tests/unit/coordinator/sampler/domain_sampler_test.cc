#include "coordinator/sampler/domain_sampler.h"

#include <gmock/gmock.h>

#include <cmath>
#include <tuple>

#include "common/json.h"
#include "tests/unit/coordinator/core_fixture.h"

namespace moe::coordinator {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Kind = v1::SessionResponse::MessageCase;

class DomainSamplerTest : public CoreFixture {
 protected:
  // train (j3), with decisions every 10 steps, runs on w1.
  void StartTraining() {
    v1::JobSpec train = TrainJob("train", "moe", "corpus");
    v1::DynamicMixture& dynamic = *train.mutable_train()->mutable_mixture()->mutable_dynamic();
    dynamic.set_interval_steps(10);
    (*dynamic.mutable_reference_losses())["c4"] = 2.0;
    (*dynamic.mutable_reference_losses())["github"] = 0.7;
    v1::JobSpec corpus = PrepareJob("corpus");
    corpus.mutable_prepare()->clear_domains();
    for (const char* name : {"c4", "github"}) {
      v1::DomainInput& domain = *corpus.mutable_prepare()->add_domains();
      domain.set_name(name);
      domain.add_paths("/text");
    }
    ASSERT_TRUE(Submit({corpus, ConstructJob("moe"), train}, "wish").ok());
    Connect("w1", 1);
    RunToSuccess("w1", "j1");
    RunToSuccess("w1", "j2");
    rank_ = {.worker = "w1", .job = "j3"};
    Started(rank_);
  }
  // What the rank measures after `step`, under the newest decision.
  void Losses(RankOutbox& rank, int64_t step, double c4, double github) {
    const Journal& journal = sampler_->JournalOf(3);
    v1::RankReport report;
    v1::DomainLosses& losses = *report.mutable_domain_losses();
    losses.set_step(step);
    losses.set_next_sample(step * 8);
    losses.set_version(static_cast<int64_t>(journal.size()));
    for (const auto& [name, loss, index] :
         {std::tuple{"c4", c4, 0}, std::tuple{"github", github, 1}}) {
      v1::DomainLoss& domain = *losses.add_domains();
      domain.set_domain(name);
      domain.set_loss(loss);
      domain.set_weight(journal.empty() ? 0.5 : journal.back().domains(index).new_weight());
    }
    Report(rank, report);
  }
  // The orders "mixture" that the worker's present session got.
  std::vector<Json> Orders() {
    std::vector<Json> orders;
    for (const v1::SessionResponse& message : Sent("w1", Kind::kCommand)) {
      Json json = Json::parse(message.command().json());
      if (json["type"] == "mixture") orders.push_back(std::move(json));
    }
    return orders;
  }
  std::string StoredJournal() {
    std::string bytes;
    EXPECT_TRUE(store_
                    ->ForEachDecision([&](uint64_t, const v1::SamplerDecision& decision) {
                      bytes += decision.SerializeAsString();
                    })
                    .ok());
    return bytes;
  }
  absl::Status Steer(const std::function<absl::Status(Turn&, v1::JobRecord&)>& steer) {
    absl::Status status;
    queue_->Change([&](Turn& turn) { status = steer(turn, *jobs_->Find("j3")); });
    return status;
  }
  absl::Status Pin(const std::map<std::string, double>& weights) {
    return Steer([&](Turn& turn, v1::JobRecord& record) {
      return sampler_->Pin(turn, record, "ann", weights);
    });
  }

  RankOutbox rank_;
};

TEST_F(DomainSamplerTest, Losses_AreDecidedJournalledAndSentToTheRank) {
  StartTraining();
  Losses(rank_, 10, 2.5, 0.8);
  ASSERT_EQ(Orders().size(), 1u);
  const Json order = Orders()[0];
  EXPECT_EQ(order["step"], 10);
  EXPECT_EQ(order["version"], 1);
  EXPECT_EQ(order["first_sample"], 80);
  const v1::SamplerDecision& decision = sampler_->JournalOf(3).back();
  EXPECT_EQ(decision.attempt(), 1);
  EXPECT_EQ(order["weights"]["c4"].get<double>(), decision.domains(0).new_weight());
  EXPECT_THAT(Replay(sampler_->JournalOf(3)), IsEmpty());
}

TEST_F(DomainSamplerTest, CoordinatorRestart_KeepsTheJournalAndRepeatsTheOrder) {
  StartTraining();
  Losses(rank_, 10, 2.5, 0.8);
  const std::string journal = StoredJournal();
  const Json order = Orders()[0];
  RestartCoordinator();
  EXPECT_EQ(StoredJournal(), journal);
  Connect("w1", 1, {{"j3", 1}});
  ASSERT_EQ(Orders().size(), 1u);
  EXPECT_EQ(Orders()[0], order);
  // The worker may not know that the report was durable, and sends it again.
  ASSERT_TRUE(Resend(rank_, 1).ok());
  EXPECT_EQ(StoredJournal(), journal);
}

TEST_F(DomainSamplerTest, LaterAttemptAtTheSameStep_GetsTheSameDecision) {
  StartTraining();
  Losses(rank_, 10, 2.5, 0.8);
  const std::string journal = StoredJournal();
  const Json order = Orders()[0];
  Exited(rank_, -1, 9);
  Advance(1000);
  ASSERT_EQ(Job("j3").attempt(), 2);
  const Json spec = Json::parse(Sent("w1", Kind::kStart).back().start().run_spec_json());
  ASSERT_EQ(spec["sampler"]["decisions"].size(), 1u);
  EXPECT_EQ(spec["sampler"]["decisions"][0]["weights"], order["weights"]);
  EXPECT_EQ(spec["sampler"]["reference_losses"]["c4"], 2.0);

  RankOutbox second{.worker = "w1", .job = "j3", .attempt = 2};
  Started(second);
  Losses(second, 10, 9.9, 0.1);  // whatever it measures this time
  EXPECT_EQ(StoredJournal(), journal);
  EXPECT_EQ(Orders().back(), order);
}

TEST_F(DomainSamplerTest, StaleAttempt_CannotMoveWeights) {
  StartTraining();
  RankOutbox first = rank_;
  Exited(first, -1, 9);
  Advance(1000);
  ASSERT_EQ(Job("j3").attempt(), 2);
  Losses(first, 10, 2.5, 0.8);
  EXPECT_THAT(sampler_->JournalOf(3), IsEmpty());
  EXPECT_THAT(Orders(), IsEmpty());
}

TEST_F(DomainSamplerTest, LossesThatCannotBeUsed_FailTheJobWithTheReason) {
  StartTraining();
  Losses(rank_, 10, std::nan(""), 0.8);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_FAILED);
  EXPECT_EQ(Job("j3").cause(), v1::CAUSE_BAD_INPUT);
  EXPECT_THAT(Job("j3").reason(), HasSubstr("the loss of domain c4 is nan"));
  EXPECT_THAT(sampler_->JournalOf(3), IsEmpty());
}

TEST_F(DomainSamplerTest, PinAndUnpin_SurviveARestartAndSteerTheNextDecision) {
  StartTraining();
  EXPECT_TRUE(absl::IsFailedPrecondition(Pin({})));  // no decision yet
  Losses(rank_, 10, 2.5, 0.8);
  ASSERT_TRUE(Pin({{"c4", 1}, {"github", 3}}).ok());
  RestartCoordinator();
  Connect("w1", 1, {{"j3", 1}});
  Losses(rank_, 20, 2.5, 0.8);
  EXPECT_EQ(Orders().back()["weights"]["github"], 0.75);
  EXPECT_EQ(sampler_->JournalOf(3).back().user(), "ann");
  ASSERT_TRUE(
      Steer([&](Turn& turn, v1::JobRecord& record) { return sampler_->Unpin(turn, record); }).ok());
  Losses(rank_, 30, 2.5, 0.8);
  EXPECT_EQ(sampler_->JournalOf(3).back().kind(), v1::DECISION_KIND_RULE);
  EXPECT_THAT(Replay(sampler_->JournalOf(3)), IsEmpty());
}

TEST_F(DomainSamplerTest, Pin_OfBadWeights_IsRefusedNamingTheDomain) {
  StartTraining();
  Losses(rank_, 10, 2.5, 0.8);
  EXPECT_THAT(Message(Pin({{"c4", 1}, {"books", 1}})), HasSubstr("no domain books"));
  EXPECT_THAT(Message(Pin({{"c4", 1}})), HasSubstr("no weight for domain github"));
  EXPECT_THAT(Message(Pin({{"c4", 1}, {"github", -1}})), HasSubstr("github is -1"));
  EXPECT_THAT(jobs_->Find("j3")->sampler().pinned_weights(), IsEmpty());
}

TEST_F(DomainSamplerTest, RollBack_IsDoneOnceByTheNextDecision) {
  StartTraining();
  Losses(rank_, 10, 2.5, 0.8);
  Losses(rank_, 20, 2.5, 0.8);
  const auto roll_back = [&](int64_t version) {
    return Steer([&](Turn& turn, v1::JobRecord& record) {
      return sampler_->RollBack(turn, record, "ann", version);
    });
  };
  EXPECT_TRUE(absl::IsNotFound(roll_back(3)));
  ASSERT_TRUE(roll_back(0).ok());
  Losses(rank_, 30, 2.5, 0.8);
  EXPECT_EQ(Orders().back()["weights"]["c4"], 0.5);
  Losses(rank_, 40, 2.5, 0.8);
  EXPECT_EQ(sampler_->JournalOf(3).back().kind(), v1::DECISION_KIND_RULE);
  ASSERT_TRUE(Pin({}).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(roll_back(1)));
}

}  // namespace
}  // namespace moe::coordinator
