#include "coordinator/sampler/decide.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "common/status.h"

namespace moe::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kInterval = 10, kBatch = 8;

v1::DynamicMixture Spec(const std::string& rule = "sheared") {
  v1::DynamicMixture spec;
  spec.set_rule(rule);
  spec.set_interval_steps(kInterval);
  return spec;
}

v1::SamplerState State() {
  v1::SamplerState state;
  (*state.mutable_reference_losses())["c4"] = 2.0;
  (*state.mutable_reference_losses())["github"] = 0.7;
  return state;
}

// What a rank measures for the decision that follows `journal`.
v1::DomainLosses Measured(const Journal& journal, double c4, double github) {
  v1::DomainLosses losses;
  const int64_t step = kInterval * (static_cast<int64_t>(journal.size()) + 1);
  losses.set_step(step);
  losses.set_tokens(step * 1000);
  losses.set_next_sample(step * kBatch);
  losses.set_version(static_cast<int64_t>(journal.size()));
  for (const auto& [name, loss, index] :
       {std::tuple{"c4", c4, 0}, std::tuple{"github", github, 1}}) {
    v1::DomainLoss& domain = *losses.add_domains();
    domain.set_domain(name);
    domain.set_loss(loss);
    domain.set_weight(journal.empty() ? 0.5 : journal.back().domains(index).new_weight());
    domain.set_epochs(0.25);
  }
  return losses;
}

v1::SamplerDecision Next(const Journal& journal, const v1::SamplerState& state, double c4,
                         double github, const std::string& rule = "sheared") {
  const auto decision = Decide(Spec(rule), state, journal, Measured(journal, c4, github));
  EXPECT_TRUE(decision.ok()) << ToString(decision.status());
  return *decision;
}

std::vector<double> NewWeights(const v1::SamplerDecision& decision) {
  return {decision.domains(0).new_weight(), decision.domains(1).new_weight()};
}

TEST(DecideTest, Decision_HoldsItsInputsAndWhereItApplies) {
  const v1::SamplerDecision decision = Next({}, State(), 2.5, 0.8);
  EXPECT_EQ(decision.version(), 1);
  EXPECT_EQ(decision.step(), 10);
  EXPECT_EQ(decision.apply_step(), 11);
  EXPECT_EQ(decision.first_sample(), 80);
  EXPECT_EQ(decision.tokens(), 10000);
  EXPECT_EQ(decision.kind(), v1::DECISION_KIND_RULE);
  EXPECT_EQ(decision.rule(), "sheared");
  EXPECT_EQ(decision.domains(0).reference_loss(), 2.0);
  EXPECT_EQ(decision.domains(0).old_weight(), 0.5);
  EXPECT_GT(decision.domains(0).new_weight(), 0.5);  // c4 is 0.5 above, github 0.1
}

TEST(DecideTest, DecisionsChain_EachStartsFromTheWeightsOfTheOneBefore) {
  Journal journal;
  for (int i = 0; i < 5; ++i) journal.push_back(Next(journal, State(), 2.5, 0.8));
  for (size_t i = 1; i < journal.size(); ++i) {
    EXPECT_EQ(journal[i].previous_version(), static_cast<int64_t>(i));
    EXPECT_EQ(journal[i].domains(0).old_weight(), journal[i - 1].domains(0).new_weight());
    EXPECT_GT(journal[i].domains(0).new_weight(), journal[i - 1].domains(0).new_weight());
  }
}

TEST(DecideTest, PinnedWeights_BeatTheRule_AndTheRuleGoesOnFromThem) {
  Journal journal = {Next({}, State(), 2.5, 0.8)};
  v1::SamplerState pinned = State();
  (*pinned.mutable_pinned_weights())["c4"] = 0.2;
  (*pinned.mutable_pinned_weights())["github"] = 0.8;
  pinned.set_user("ann");
  journal.push_back(Next(journal, pinned, 2.5, 0.8));
  EXPECT_EQ(journal[1].kind(), v1::DECISION_KIND_PINNED);
  EXPECT_EQ(journal[1].user(), "ann");
  EXPECT_THAT(NewWeights(journal[1]), ElementsAre(0.2, 0.8));
  journal.push_back(Next(journal, State(), 2.5, 0.8));
  EXPECT_EQ(journal[2].kind(), v1::DECISION_KIND_RULE);
  EXPECT_EQ(journal[2].domains(0).old_weight(), 0.2);
}

TEST(DecideTest, Rollback_GivesTheWeightsOfThatVersion) {
  Journal journal;
  for (int i = 0; i < 3; ++i) journal.push_back(Next(journal, State(), 2.5, 0.8));
  v1::SamplerState state = State();
  state.set_rollback_version(1);
  const v1::SamplerDecision back = Next(journal, state, 2.5, 0.8);
  EXPECT_EQ(back.kind(), v1::DECISION_KIND_ROLLBACK);
  EXPECT_EQ(back.rollback_version(), 1);
  EXPECT_EQ(back.version(), 4);
  EXPECT_EQ(NewWeights(back), NewWeights(journal[0]));
  state.set_rollback_version(0);
  EXPECT_THAT(NewWeights(Next(journal, state, 2.5, 0.8)), ElementsAre(0.5, 0.5));
}

TEST(DecideTest, LossesThatDoNotFollowTheJournal_AreRefused) {
  const Journal journal = {Next({}, State(), 2.5, 0.8)};
  v1::DomainLosses late = Measured(journal, 2.5, 0.8);
  late.set_version(0);
  EXPECT_TRUE(absl::IsFailedPrecondition(Decide(Spec(), State(), journal, late).status()));
  v1::DomainLosses early = Measured(journal, 2.5, 0.8);
  early.set_step(9);
  EXPECT_TRUE(absl::IsFailedPrecondition(Decide(Spec(), State(), journal, early).status()));
  v1::DomainLosses other = Measured(journal, 2.5, 0.8);
  other.mutable_domains(1)->set_weight(0.5);
  const auto refused = Decide(Spec(), State(), journal, other);
  ASSERT_TRUE(absl::IsFailedPrecondition(refused.status()));
  EXPECT_THAT(Message(refused.status()), HasSubstr("github"));
}

TEST(DecideTest, DomainWithoutReferenceOrPinnedWeight_IsNamed) {
  v1::SamplerState state = State();
  state.mutable_reference_losses()->erase("github");
  auto refused = Decide(Spec(), state, {}, Measured({}, 2.5, 0.8));
  ASSERT_TRUE(absl::IsInvalidArgument(refused.status()));
  EXPECT_THAT(Message(refused.status()), HasSubstr("github has no reference loss"));
  state = State();
  (*state.mutable_pinned_weights())["c4"] = 1;
  refused = Decide(Spec(), state, {}, Measured({}, 2.5, 0.8));
  EXPECT_THAT(Message(refused.status()), HasSubstr("github"));
}

TEST(ReplayTest, JournalOfAllKinds_ComesOutToTheSameBits) {
  for (const std::string rule : {"sheared", "paper"}) {
    Journal journal;
    v1::SamplerState state = State();
    for (int i = 0; i < 8; ++i) {
      v1::SamplerState now = state;
      if (i == 3 || i == 4) {
        (*now.mutable_pinned_weights())["c4"] = 0.3;
        (*now.mutable_pinned_weights())["github"] = 0.7;
      }
      if (i == 6) now.set_rollback_version(2);
      journal.push_back(Next(journal, now, 2.5 - 0.1 * i, 0.9 - 0.05 * i, rule));
    }
    EXPECT_THAT(Replay(journal), IsEmpty()) << rule;
    // Stored and read back, it still does.
    for (v1::SamplerDecision& decision : journal) {
      v1::SamplerDecision copy;
      ASSERT_TRUE(copy.ParseFromString(decision.SerializeAsString()));
      decision = copy;
    }
    EXPECT_THAT(Replay(journal), IsEmpty()) << rule;
  }
}

TEST(ReplayTest, AnyChangedBitOfAnInputOrAWeight_IsFound) {
  Journal sound;
  for (int i = 0; i < 4; ++i) sound.push_back(Next(sound, State(), 2.5, 0.8));
  const auto nudge = [](double value) { return std::nextafter(value, 10); };
  Journal journal = sound;
  journal[1].mutable_domains(0)->set_new_weight(nudge(journal[1].domains(0).new_weight()));
  EXPECT_EQ(Replay(journal).size(), 2u);  // itself, and the chain to the next
  journal = sound;
  journal[2].mutable_domains(1)->set_loss(0.81);
  EXPECT_FALSE(Replay(journal).empty());
  journal = sound;
  journal[2].set_rule("unheard-of");
  EXPECT_FALSE(Replay(journal).empty());
  journal = sound;
  journal.erase(journal.begin() + 1);
  EXPECT_FALSE(Replay(journal).empty());
}

TEST(ReferenceLossesTest, Report_GivesTheLossesOfALabel) {
  google::protobuf::Struct report;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(
                  R"({"losses": [{"label": "dense", "domains": {"c4": 2.5, "github": 0.75}},
                                 {"label": "moe", "domains": {"c4": 3.5}}]})",
                  &report)
                  .ok());
  EXPECT_EQ(ReferenceLosses(report, "")->at("github"), 0.75);
  EXPECT_EQ(ReferenceLosses(report, "moe")->at("c4"), 3.5);
  const auto unknown = ReferenceLosses(report, "other");
  ASSERT_TRUE(absl::IsNotFound(unknown.status()));
  EXPECT_THAT(Message(unknown.status()), HasSubstr("dense, moe"));
  EXPECT_TRUE(absl::IsInvalidArgument(ReferenceLosses({}, "").status()));
}

}  // namespace
}  // namespace moe::coordinator
