#include "coordinator/turn_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/status.h"

namespace moe::coordinator {
namespace {

using ::testing::ElementsAre;

// Writes down what happens, in order.
class TurnRunnerTest : public ::testing::Test {
 protected:
  TurnRunner Runner() {
    return TurnRunner(&clock_,
                      {.before_commit = [this](Turn&) { happened_.push_back("schedule"); },
                       .commit =
                           [this](const storage::Batch& batch) {
                             happened_.push_back(fmt::format("commit {}", batch.writes().size()));
                             return commit_status_;
                           }});
  }
  TurnRunner::Task Change(const std::string& name) {
    return {.change =
                [this, name](Turn& turn) {
                  happened_.push_back(name);
                  turn.batch.PutVersionCounter(name, 1);
                  turn.After([this, name] { happened_.push_back("tell " + name); });
                },
            .read = nullptr};
  }
  TurnRunner::Task Read(const std::string& name) {
    return {.change = nullptr, .read = [this, name] { happened_.push_back(name); }};
  }

  ManualClock clock_;
  absl::Status commit_status_;
  std::vector<std::string> happened_;
};

TEST_F(TurnRunnerTest, ChangesOfAGroup_ShareOneCommit_AndAreToldAfterIt) {
  ASSERT_TRUE(Runner().Run({Change("a"), Change("b")}).ok());
  EXPECT_THAT(happened_, ElementsAre("a", "b", "schedule", "commit 2", "tell a", "tell b"));
}

TEST_F(TurnRunnerTest, Read_SeesWhatIsDurable_AndSplitsNoGroup) {
  ASSERT_TRUE(Runner().Run({Change("a"), Read("look"), Change("b")}).ok());
  EXPECT_THAT(happened_, ElementsAre("look", "a", "b", "schedule", "commit 2", "tell a", "tell b"));
}

TEST_F(TurnRunnerTest, GroupThatChangesNothing_IsNotCommitted) {
  ASSERT_TRUE(Runner().Run({Read("look")}).ok());
  EXPECT_THAT(happened_, ElementsAre("look", "schedule"));
}

TEST_F(TurnRunnerTest, FailedCommit_TellsNobody) {
  commit_status_ = ResourceExhausted("the disk is full");
  EXPECT_TRUE(absl::IsResourceExhausted(Runner().Run({Change("a"), Change("b")})));
  EXPECT_THAT(happened_, ElementsAre("a", "b", "schedule", "commit 2"));
}

}  // namespace
}  // namespace moe::coordinator
