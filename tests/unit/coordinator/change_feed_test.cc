#include "coordinator/services/change_feed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "coordinator/services/watch_change.h"
#include "tests/unit/coordinator/core_fixture.h"

namespace moe::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::Pair;

constexpr absl::Duration kDeadline = absl::Seconds(20);

v1::WatchJobsResponse Change(const std::string& job_id, int64_t revision) {
  v1::WatchJobsResponse change;
  change.mutable_job()->set_job_id(job_id);
  change.mutable_job()->set_revision(revision);
  change.mutable_event()->set_message("something happened");
  return change;
}

TEST(WatchChangeTest, Joined_IsTheFirstChangeWithTheOthersAsMore) {
  std::vector<std::shared_ptr<const WatchChange>> changes;
  v1::WatchJobsResponse expected;
  for (int i = 1; i <= 3; ++i) {
    v1::WatchJobsResponse change = Change("j7", i);
    // Sizes of one and of three bytes.
    if (i == 3) change.mutable_event()->set_message(std::string(20'000, 'x'));
    changes.push_back(std::make_shared<const WatchChange>(WatchChangeOf(change)));
    if (i == 1) {
      expected = change;
    } else {
      *expected.add_more() = change;
    }
  }
  const grpc::Slice slice = JoinChanges(changes);
  EXPECT_EQ(std::string(slice.begin(), slice.end()), expected.SerializeAsString());
  EXPECT_EQ(slice.size(),
            changes[0]->bytes.size() + SizeInMore(*changes[1]) + SizeInMore(*changes[2]));
}

TEST(WatchChangeTest, SaysWhatTheFeedNeedsToKnow) {
  v1::WatchJobsResponse message = Change("j7", 40);
  EXPECT_EQ(WatchChangeOf(message).job, 7u);
  EXPECT_EQ(WatchChangeOf(message).revision, 40);
  EXPECT_FALSE(WatchChangeOf(message).ended);
  message.mutable_job()->set_state(v1::JOB_STATE_FAILED);
  EXPECT_TRUE(WatchChangeOf(message).ended);
}

TEST(RestAfterTest, ShrinksTheNearerAFollowerIsToBeingCutOff) {
  using std::chrono::milliseconds;
  EXPECT_EQ(RestAfter(milliseconds(4), 0, /*is_busy=*/true), milliseconds(36));
  EXPECT_EQ(RestAfter(milliseconds(4), 0, /*is_busy=*/false), milliseconds(4));
  EXPECT_EQ(RestAfter(milliseconds(4), kMaxBehind / 2, /*is_busy=*/true), milliseconds(18));
  EXPECT_EQ(RestAfter(milliseconds(4), kMaxBehind / 2, /*is_busy=*/false), milliseconds(2));
  EXPECT_EQ(RestAfter(milliseconds(4), kMaxBehind, /*is_busy=*/true), milliseconds(0));
  EXPECT_EQ(RestAfter(milliseconds(4), 2 * kMaxBehind, /*is_busy=*/true), milliseconds(0));
}

// Somebody who hears everything at once, or only when told to.
class Listener final : public ChangeFeed::Follower {
 public:
  explicit Listener(bool deaf = false) : deaf_(deaf) {}

  void Take(const std::shared_ptr<const WatchChange>& change) override {
    absl::MutexLock lock(&mutex_);
    waiting_.push_back(change);
  }
  size_t Serve(ChangeFeed::Untold* untold) override {
    absl::MutexLock lock(&mutex_);
    if (deaf_) return 1;  // as if a message were on its way
    heard_.insert(heard_.end(), waiting_.begin(), waiting_.end());
    waiting_.clear();
    while (untold != nullptr && untold->size() > 0) heard_.push_back(untold->TakeOne());
    return 0;
  }
  void CutOff(size_t behind, int64_t revision) override {
    absl::MutexLock lock(&mutex_);
    cut_off_ = {behind, revision};
  }

  void Open() {
    absl::MutexLock lock(&mutex_);
    deaf_ = false;
  }
  // Revisions of what was heard, once this one is among them.
  std::vector<int64_t> Await(int64_t revision) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [this, revision]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return !heard_.empty() && heard_.back()->revision >= revision;
    };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&enough), kDeadline));
    std::vector<int64_t> revisions;
    for (const auto& change : heard_) revisions.push_back(change->revision);
    return revisions;
  }
  // How far it was behind when it was cut off, and from which revision on.
  std::pair<size_t, int64_t> AwaitCutOff() {
    absl::MutexLock lock(&mutex_);
    const auto is_cut = [this]()
                            ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return cut_off_.has_value(); };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&is_cut), kDeadline));
    return cut_off_.value_or(std::pair<size_t, int64_t>{});
  }
  std::vector<uint64_t> Jobs() {
    absl::MutexLock lock(&mutex_);
    std::vector<uint64_t> jobs;
    for (const auto& change : heard_) jobs.push_back(change->job);
    return jobs;
  }

 private:
  absl::Mutex mutex_;
  bool deaf_ ABSL_GUARDED_BY(mutex_);
  std::optional<std::pair<size_t, int64_t>> cut_off_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<const WatchChange>> waiting_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<const WatchChange>> heard_ ABSL_GUARDED_BY(mutex_);
};

class ChangeFeedTest : public CoreFixture {
 protected:
  void Follow(const std::shared_ptr<Listener>& listener, const std::set<uint64_t>& jobs,
              int64_t from_revision) {
    feed_.Follow(listener, jobs, *jobs_->ChangesSince(jobs, from_revision));
  }
  void SubmitOne() {
    ASSERT_TRUE(Submit({PrepareJob("a")}, fmt::format("wish-{}", ++wishes_)).ok());
  }

  ChangeFeed feed_{jobs_.get()};
  int wishes_ = 0;
};

TEST_F(ChangeFeedTest, WhatWasMissedComesFirst_AndEveryChangeOnce) {
  const auto early = std::make_shared<Listener>();
  Follow(early, {}, 0);
  SubmitOne();
  const int64_t from = jobs_->revision();
  for (int i = 0; i < 5; ++i) SubmitOne();
  const int64_t missed = jobs_->revision();
  const auto late = std::make_shared<Listener>();
  Follow(late, {}, from);
  for (int i = 0; i < 5; ++i) SubmitOne();

  const std::vector<int64_t> all = early->Await(jobs_->revision());
  std::vector<int64_t> every(static_cast<size_t>(jobs_->revision()));
  std::iota(every.begin(), every.end(), 1);
  EXPECT_EQ(all, every);
  // Of what was missed it gets each job's newest state, which may leave out what came between.
  const std::vector<int64_t> some = late->Await(jobs_->revision());
  EXPECT_TRUE(std::is_sorted(some.begin(), some.end()));
  EXPECT_GT(some.front(), from);
  const auto followed = std::upper_bound(some.begin(), some.end(), missed);
  EXPECT_GE(followed - some.begin(), 5);
  EXPECT_THAT(std::vector<int64_t>(followed, some.end()),
              ElementsAreArray(all.begin() + missed, all.end()));
}

TEST_F(ChangeFeedTest, FollowerOfOneJob_IsToldOfNoOther) {
  const auto everything = std::make_shared<Listener>();
  const auto one = std::make_shared<Listener>();
  for (int i = 0; i < 3; ++i) SubmitOne();
  Follow(everything, {}, jobs_->revision());
  Follow(one, {2}, jobs_->revision());
  ASSERT_TRUE(Cancel("j1").ok());
  ASSERT_TRUE(Cancel("j2").ok());
  ASSERT_TRUE(Cancel("j3").ok());
  everything->Await(jobs_->revision());
  one->Await(Job("j2").revision());
  EXPECT_THAT(one->Jobs(), ElementsAre(2u));
}

TEST_F(ChangeFeedTest, WhoNoLongerFollows_IsToldNothing) {
  const auto everything = std::make_shared<Listener>();
  const auto gone = std::make_shared<Listener>();
  Follow(everything, {}, 0);
  Follow(gone, {1, 2}, 0);
  feed_.Unfollow(gone);
  feed_.Unfollow(gone);  // harmless
  SubmitOne();
  everything->Await(jobs_->revision());
  EXPECT_TRUE(gone->Jobs().empty());
}

TEST_F(ChangeFeedTest, FollowerThatDoesNotRead_HoldsUpNobody) {
  const auto deaf = std::make_shared<Listener>(/*deaf=*/true);
  const auto other = std::make_shared<Listener>();
  Follow(deaf, {}, 0);
  Follow(other, {}, 0);
  for (int i = 0; i < 20; ++i) SubmitOne();
  const std::vector<int64_t> all = other->Await(jobs_->revision());
  EXPECT_TRUE(deaf->Jobs().empty());
  deaf->Open();
  feed_.CanServe(deaf);
  EXPECT_THAT(deaf->Await(jobs_->revision()), ElementsAreArray(all));
}

TEST_F(ChangeFeedTest, FollowerThatFallsTooFarBehind_IsCutOffAndTheOthersAreNot) {
  const auto deaf = std::make_shared<Listener>(/*deaf=*/true);
  const auto other = std::make_shared<Listener>();
  SubmitOne();
  const int64_t before = jobs_->revision();
  Follow(deaf, {}, before);
  Follow(other, {}, before);
  while (jobs_->revision() < before + static_cast<int64_t>(kMaxBehind)) SubmitOne();
  other->Await(jobs_->revision());
  SubmitOne();
  EXPECT_THAT(deaf->AwaitCutOff(), Pair(kMaxBehind + 1, before + 1));
  SubmitOne();
  const std::vector<int64_t> all = other->Await(jobs_->revision());
  EXPECT_EQ(std::ssize(all), jobs_->revision() - before);
  EXPECT_TRUE(deaf->Jobs().empty());
}

std::shared_ptr<const WatchChange> OfSize(size_t bytes) {
  return std::make_shared<const WatchChange>(
      WatchChange{.job = 1, .revision = 1, .ended = false, .bytes = std::string(bytes, 'x')});
}

TEST(ChangeLogTest, Messages_HoldWhatFitsAndAreShared) {
  ChangeLog log;
  for (int i = 0; i < 3; ++i) log.Append(OfSize(kMaxBatchBytes / 2 - 100));
  log.Append(OfSize(2 * kMaxBatchBytes));
  uint64_t place = 0, other = 0;
  const grpc::Slice first = log.TakeMessage(&place);
  EXPECT_EQ(place, 2u);
  EXPECT_EQ(log.TakeMessage(&other).begin(), first.begin());
  EXPECT_EQ(other, 2u);
  log.TakeMessage(&place);
  EXPECT_EQ(place, 3u);
  EXPECT_EQ(log.TakeMessage(&place).size(), 2 * kMaxBatchBytes);  // more than fits goes alone
  EXPECT_EQ(place, log.end());
}

TEST(ChangeLogTest, PlacesStay_WhenWhatIsBeforeThemIsForgotten) {
  ChangeLog log;
  for (int i = 0; i < 5; ++i) log.Append(OfSize(10 + i));
  log.TrimTo(3);
  EXPECT_EQ(log.begin(), 3u);
  EXPECT_EQ(log.end(), 5u);
  EXPECT_EQ(log.At(4)->bytes.size(), 14u);
}

}  // namespace
}  // namespace moe::coordinator
