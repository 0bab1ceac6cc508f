#include "coordinator/queues/queue_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "common/status.h"

namespace moe::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kTwoTeams[] = R"(default: research/llama
half_life_hours: 24
queues:
  research:
    quota: 6
    limit: 8
    lends: 2
    weight: 2
    queues:
      llama: {quota: 4}
      mistral: {quota: 2, limit: 3}
  production:
    quota: 10
)";

TEST(QueueFileTest, NestedQueues_KeepTheirRulesAndFullNames) {
  const auto tree = ParseQueueFile(kTwoTeams, "queues.yaml");
  ASSERT_TRUE(tree.ok()) << tree.status();
  ASSERT_EQ(tree->rules().size(), 4u);
  const QueueRules& research = tree->rules(tree->Find("research"));
  EXPECT_EQ(research.quota, 6);
  EXPECT_EQ(research.limit, 8);
  EXPECT_EQ(research.lends, 2);
  EXPECT_EQ(research.weight, 2);
  EXPECT_EQ(research.parent, -1);
  const QueueRules& mistral = tree->rules(tree->Find("research/mistral"));
  EXPECT_EQ(mistral.parent, tree->Find("research"));
  EXPECT_EQ(mistral.limit, 3);
  EXPECT_EQ(mistral.lends, std::numeric_limits<int64_t>::max());
  EXPECT_EQ(tree->half_life_seconds(), 86400);
  EXPECT_EQ(tree->default_name(), "research/llama");
}

TEST(QueueFileTest, OnlyQueuesWithoutOthersBelow_TakeJobs) {
  const auto tree = ParseQueueFile(kTwoTeams, "queues.yaml");
  ASSERT_TRUE(tree.ok());
  EXPECT_THAT(tree->JobQueueNames(),
              ElementsAre("research/llama", "research/mistral", "production"));
  EXPECT_FALSE(tree->TakesJobs(tree->Find("research")));
  EXPECT_TRUE(tree->IsWithin(tree->Find("research/llama"), tree->Find("research")));
  EXPECT_FALSE(tree->IsWithin(tree->Find("production"), tree->Find("research")));
}

TEST(QueueFileTest, AJobOfAQueueThatIsGone_CountsForTheDefaultOne) {
  const auto tree = ParseQueueFile(kTwoTeams, "queues.yaml");
  ASSERT_TRUE(tree.ok());
  EXPECT_EQ(tree->QueueOf("vanished"), tree->Find("research/llama"));
  EXPECT_EQ(tree->QueueOf("research"), tree->Find("research/llama"));
  EXPECT_EQ(tree->QueueOf("production"), tree->Find("production"));
}

struct BadFile {
  const char* name;
  std::string text;
  std::vector<std::string> says;
};

class BadQueueFileTest : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadQueueFileTest, IsRefusedWithPlaceValueLimitAndFix) {
  const auto tree = ParseQueueFile(GetParam().text, "queues.yaml");
  ASSERT_FALSE(tree.ok());
  EXPECT_EQ(tree.status().code(), absl::StatusCode::kInvalidArgument);
  for (const std::string& part : GetParam().says) {
    EXPECT_THAT(Message(tree.status()), HasSubstr(part));
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, BadQueueFileTest,
    ::testing::Values(
        BadFile{"Empty", "", {"queues.yaml:", "default, half_life_hours, queues"}},
        BadFile{"NotYaml", "queues: {a: [", {"queues.yaml:"}},
        BadFile{"UnknownKey",
                "default: a\nquues: {}\n",
                {"queues.yaml:2", "no key 'quues'", "did you mean 'queues'?"}},
        BadFile{"UnknownKeyOfAQueue",
                "default: a\nqueues:\n  a: {qouta: 1}\n",
                {"queues.yaml:3", "queue 'a' has no key 'qouta'", "did you mean 'quota'?"}},
        BadFile{"NoQuota",
                "default: a\nqueues:\n  a: {limit: 4}\n",
                {"queues.yaml:3", "'a' has no quota"}},
        BadFile{
            "NegativeQuota", "default: a\nqueues:\n  a: {quota: -1}\n", {"quota=-1", "use 0 to"}},
        BadFile{"QuotaWithAFraction",
                "default: a\nqueues:\n  a: {quota: 1.5}\n",
                {"quota=1.5", "not a number of slots"}},
        BadFile{"LimitBelowQuota",
                "default: a\nqueues:\n  a: {quota: 6, limit: 4}\n",
                {"limit=4 is below its quota 6", "use 6 or more"}},
        BadFile{"LendsMoreThanItHas",
                "default: a\nqueues:\n  a: {quota: 2, lends: 3}\n",
                {"lends=3 is above its quota 2"}},
        BadFile{"WeightOfNothing",
                "default: a\nqueues:\n  a: {quota: 2, weight: 0}\n",
                {"weight=0 is out of range"}},
        BadFile{"QuotasBelowAddUpToMore",
                "default: a/b\nqueues:\n  a:\n    quota: 3\n    queues:\n      b: {quota: 2}\n"
                "      c: {quota: 2}\n",
                {"queues.yaml:7", "add up to 4", "quota 3"}},
        BadFile{"LimitAboveTheOneAbove",
                "default: a/b\nqueues:\n  a:\n    quota: 3\n    limit: 4\n    queues:\n"
                "      b: {quota: 2, limit: 5}\n",
                {"limit=5 is above the limit 4 of 'a'"}},
        BadFile{"BadName",
                "default: a\nqueues:\n  A_1: {quota: 1}\n",
                {"queue 'A_1'", "lower-case letters"}},
        BadFile{"Twice",
                "default: a\nqueues:\n  a: {quota: 1}\n  a: {quota: 2}\n",
                {"queues.yaml:4", "given twice"}},
        BadFile{"NoDefault", "queues:\n  a: {quota: 1}\n", {"'default' is missing", "one of a"}},
        BadFile{"DefaultTakesNoJobs",
                "default: a\nqueues:\n  a:\n    quota: 3\n    queues:\n      b: {quota: 2}\n",
                {"default='a'", "use one of a/b"}}),
    [](const auto& param) { return param.param.name; });

TEST(QueueTreeTest, TakeNumbersOf_TheSameQueuesInAnyOrder_TakesThem) {
  QueueTree tree = *ParseQueueFile(kTwoTeams, "queues.yaml");
  const int32_t llama = tree.Find("research/llama"), production = tree.Find("production");
  const auto changed = ParseQueueFile(R"(default: research/llama
half_life_hours: 24
queues:
  production: {quota: 3, limit: 5, lends: 0, weight: 4}
  research:
    quota: 9
    queues:
      mistral: {quota: 2, limit: 3}
      llama: {quota: 1}
)",
                                      "queues.yaml");
  ASSERT_TRUE(changed.ok()) << changed.status();
  ASSERT_TRUE(tree.TakeNumbersOf(*changed).ok());
  EXPECT_EQ(tree.Find("production"), production) << "what was used is counted by it";
  EXPECT_EQ(tree.rules(production).quota, 3);
  EXPECT_EQ(tree.rules(production).limit, 5);
  EXPECT_EQ(tree.rules(production).lends, 0);
  EXPECT_EQ(tree.rules(production).weight, 4);
  EXPECT_EQ(tree.rules(llama).quota, 1);
  EXPECT_EQ(tree.rules(llama).name, "research/llama");
}

TEST(QueueTreeTest, TakeNumbersOf_OtherQueues_ChangesNothingAndSaysWhich) {
  QueueTree tree = *ParseQueueFile("default: a\nqueues: {a: {quota: 4}, b: {quota: 0}}\n", "q");
  for (const auto& [text, said] : std::vector<std::pair<std::string, std::string>>{
           {"default: a\nqueues: {a: {quota: 9}}\n", "queue 'b' is gone"},
           {"default: a\nqueues: {a: {quota: 9}, b: {quota: 0}, c: {quota: 0}}\n",
            "queue 'c' is new"},
           {"default: b\nqueues: {a: {quota: 9}, b: {quota: 0}}\n", "default='b' was 'a'"},
           {"default: a\nhalf_life_hours: 1\nqueues: {a: {quota: 9}, b: {quota: 0}}\n",
            "half_life_hours=1 was 168"}}) {
    const auto other = ParseQueueFile(text, "q");
    ASSERT_TRUE(other.ok()) << other.status();
    const absl::Status taken = tree.TakeNumbersOf(*other);
    EXPECT_TRUE(absl::IsFailedPrecondition(taken)) << text;
    EXPECT_THAT(Message(taken), HasSubstr(said));
    EXPECT_EQ(tree.rules(tree.Find("a")).quota, 4);
  }
}

}  // namespace
}  // namespace moe::coordinator
