#include "coordinator/commit_loop.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <limits>

#include "absl/synchronization/notification.h"
#include "common/status.h"

namespace moe::coordinator {
namespace {

class CommitLoopTest : public ::testing::Test {
 protected:
  CommitLoopTest() {
    folder_ = std::filesystem::temp_directory_path() /
              fmt::format("moe-loop-{}-{}", ::getpid(),
                          ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    auto store = storage::Store::Open({.path = folder_});
    EXPECT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    loop_ = std::make_unique<CommitLoop>(store_.get(), &clock_);
  }
  ~CommitLoopTest() override {
    loop_.reset();
    store_.reset();
    std::filesystem::remove_all(folder_);
  }
  CommitLoop::Hooks Hooks() {
    return {.before_commit = [](Turn&) {},
            .next_deadline_millis = [] { return std::numeric_limits<int64_t>::max(); },
            .on_commit = [this](double) { ++commits_; },
            .on_fatal = [](const absl::Status& status) { FAIL() << status; }};
  }
  bool IsStored(const std::string& request_id) {
    return store_->FindRequest(request_id)->has_value();
  }

  std::filesystem::path folder_;
  RealClock clock_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<CommitLoop> loop_;
  int commits_ = 0;
};

TEST_F(CommitLoopTest, TellsOnlyWhatIsDurable) {
  loop_->Start(Hooks());
  absl::Notification told;
  bool was_stored = false;
  loop_->Change([&](Turn& turn) {
    turn.batch.PutRequest("wish", {});
    EXPECT_FALSE(IsStored("wish"));
    turn.After([&] {
      was_stored = IsStored("wish");
      told.Notify();
    });
  });
  told.WaitForNotification();
  EXPECT_TRUE(was_stored);
}

TEST_F(CommitLoopTest, ReadsSeeWhatWasAcknowledgedBefore) {
  loop_->Start(Hooks());
  absl::Notification read;
  bool was_stored = false;
  loop_->Change([&](Turn& turn) {
    turn.batch.PutRequest("wish", {});
    turn.After([&] {
      loop_->Read([&] {
        was_stored = IsStored("wish");
        read.Notify();
      });
    });
  });
  read.WaitForNotification();
  EXPECT_TRUE(was_stored);
}

TEST_F(CommitLoopTest, ReadsSeeNothingThatIsNotDurable) {
  int in_memory = 0;
  std::vector<int> seen;
  for (int i = 0; i < 3; ++i) {
    loop_->Change([&](Turn& turn) {
      ++in_memory;
      turn.batch.PutRequest("wish", {});
    });
    loop_->Read([&] { seen.push_back(in_memory); });
  }
  loop_->Start(Hooks());
  loop_->Stop();
  EXPECT_EQ(in_memory, 3);
  EXPECT_EQ(seen, (std::vector<int>{0, 0, 0}));
}

TEST_F(CommitLoopTest, ChangesThatWaitTogether_ShareOneSync) {
  constexpr int kChanges = 100;
  // Handed in before the loop runs: all are there when it looks.
  int told = 0;
  int read = 0;
  for (int i = 0; i < kChanges; ++i) {
    loop_->Change([&, i](Turn& turn) {
      turn.batch.PutRequest(std::to_string(i), {});
      turn.After([&] { ++told; });
    });
    loop_->Read([&] { ++read; });  // reads in between split nothing
  }
  loop_->Start(Hooks());
  loop_->Stop();
  EXPECT_EQ(told, kChanges);
  EXPECT_EQ(read, kChanges);
  EXPECT_EQ(commits_, 1);
  EXPECT_TRUE(IsStored("99"));
}

TEST_F(CommitLoopTest, WakesForADeadlineWithoutAnyChange) {
  absl::Notification woken;
  CommitLoop::Hooks hooks = Hooks();
  const int64_t deadline = clock_.MonotonicMillis() + 20;
  hooks.next_deadline_millis = [&] {
    return woken.HasBeenNotified() ? std::numeric_limits<int64_t>::max() : deadline;
  };
  hooks.before_commit = [&](Turn& turn) {
    if (turn.monotonic_millis >= deadline && !woken.HasBeenNotified()) woken.Notify();
  };
  loop_->Start(hooks);
  woken.WaitForNotification();
  EXPECT_GE(clock_.MonotonicMillis(), deadline);
}

}  // namespace
}  // namespace moe::coordinator
