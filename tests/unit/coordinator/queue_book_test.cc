#include "coordinator/queue_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/common/temporary_folder.h"

namespace moe::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class QueueBookTest : public ::testing::Test {
 protected:
  QueueBookTest() {
    turn_.unix_millis = 1'000'000;
    auto store = storage::Store::Open({.path = folder_.File("store")});
    EXPECT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    jobs_ = std::make_unique<JobTable>(store_.get());
    EXPECT_TRUE(jobs_->Load().ok());
    attempts_ = std::make_unique<AttemptTable>(store_.get(), jobs_.get(), &workers_);
    ledger_ = std::make_unique<SlotLedger>(store_.get(), jobs_.get(), &queues_);
    accounts_ = std::make_unique<AccountBook>(&queues_, ledger_.get());
    book_ = std::make_unique<QueueBook>(options_, QueueBook::Parts{.jobs = jobs_.get(),
                                                                   .attempts = attempts_.get(),
                                                                   .accounts = accounts_.get()});
  }

  uint64_t Submit(int64_t time_limit_seconds = 0) {
    v1::SubmitPipelineRequest request;
    request.set_request_id(std::to_string(++requests_));
    CompleteJob job;
    job.spec.mutable_prepare();
    job.spec.mutable_resources()->set_slots(1);
    job.spec.set_time_limit_seconds(time_limit_seconds);
    return *ParseJobId(jobs_->Submit(turn_, request, {job}, "ann").jobs(0).job_id());
  }
  v1::JobRecord& Record(uint64_t job) { return *jobs_->Find(job); }
  void Place(uint64_t job) {
    v1::JobRecord& record = Record(job);
    record.mutable_job()->set_attempt(record.job().attempt() + 1);
    attempts_->Add({job, record.job().attempt()}, {}, 0);
    jobs_->Move(turn_, record, JobChange::kPlaced, v1::CAUSE_UNSPECIFIED, "placed");
  }
  // The job is queued again, and its ranks are still there.
  void Fail(uint64_t job, int64_t backoff_ms) {
    Record(job).set_retry_unix_millis(turn_.unix_millis + backoff_ms);
    jobs_->Move(turn_, Record(job), JobChange::kAnotherAttempt, v1::CAUSE_RANK_DIED, "died");
  }
  void RanksAreGone(uint64_t job) {
    attempts_->Remove(turn_, *attempts_->Find({job, Record(job).job().attempt()}));
  }
  // The numbers of those that may start, in order.
  std::vector<uint64_t> Update(const std::set<uint64_t>& owed = {}) {
    book_->Update(turn_.unix_millis, owed, {}, &queue_);
    std::vector<uint64_t> numbers;
    for (const QueuedJob& job : queue_) numbers.push_back(job.submit_order);
    std::sort(numbers.begin(), numbers.end());
    return numbers;
  }
  bool IsNews(size_t index, WaitCode code, int32_t full_queue = -1,
              const std::string& sentence = "waits") {
    return book_->IsNews({.job_id = queue_[index].job_id,
                          .index = index,
                          .reason = sentence,
                          .code = code,
                          .full_queue = full_queue});
  }

  TemporaryFolder folder_;
  SupervisorOptions options_;
  QueueTree queues_;
  WorkerRegistry workers_{WorkerRegistry::Options()};
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<JobTable> jobs_;
  std::unique_ptr<AttemptTable> attempts_;
  std::unique_ptr<SlotLedger> ledger_;
  std::unique_ptr<AccountBook> accounts_;
  std::unique_ptr<QueueBook> book_;
  std::vector<QueuedJob> queue_;
  Turn turn_;
  int requests_ = 0;
};

TEST_F(QueueBookTest, ComesAndGoes_WithTheStateOfJobs) {
  Submit(), Submit(), Submit();
  EXPECT_THAT(Update(), ElementsAre(1, 2, 3));
  Place(2);
  jobs_->SetHeld(turn_, Record(3), true, "held");
  EXPECT_THAT(Update(), ElementsAre(1));
  jobs_->SetHeld(turn_, Record(3), false, "released");
  Submit();
  EXPECT_THAT(Update(), ElementsAre(1, 3, 4));
}

TEST_F(QueueBookTest, AnotherAttempt_WaitsForItsRanksAndItsBackoff) {
  Submit();
  EXPECT_THAT(Update(), ElementsAre(1));
  Place(1);
  Fail(1, 500);
  EXPECT_THAT(Update(), IsEmpty());
  EXPECT_EQ(book_->next_retry_unix_millis(), turn_.unix_millis + 500);
  turn_.unix_millis += 500;
  EXPECT_THAT(Update(), IsEmpty()) << "its ranks are still there";
  RanksAreGone(1);
  EXPECT_THAT(Update(), ElementsAre(1));
  EXPECT_EQ(book_->next_retry_unix_millis(), std::numeric_limits<int64_t>::max());
}

TEST_F(QueueBookTest, TimeLimit_CountsWhatEarlierAttemptsHeld) {
  Submit(/*time_limit_seconds=*/100);
  Update();
  const double kill_seconds = static_cast<double>(options_.stop_grace_ms) / 1000;
  EXPECT_DOUBLE_EQ(queue_[0].bound_seconds, 100 + kill_seconds);
  Place(1);
  Fail(1, 0);
  Record(1).set_held_millis(30'000);
  RanksAreGone(1);
  Update();
  EXPECT_DOUBLE_EQ(queue_[0].bound_seconds, 70 + kill_seconds);
}

TEST_F(QueueBookTest, Owed_IsMarkedForAsLongAsItIs) {
  Submit(), Submit();
  Update({2});
  EXPECT_FALSE(queue_[0].owed);
  EXPECT_TRUE(queue_[1].owed);
  Update();
  EXPECT_FALSE(queue_[1].owed);
}

TEST_F(QueueBookTest, IsNews_OncePerStateOfTheQueue) {
  Submit(), Submit();
  Update();
  EXPECT_TRUE(IsNews(1, WaitCode::kTurn));
  EXPECT_FALSE(IsNews(1, WaitCode::kTurn));
  EXPECT_TRUE(IsNews(1, WaitCode::kTurn, /*full_queue=*/0));
  EXPECT_TRUE(IsNews(1, WaitCode::kNoRoom));
  EXPECT_FALSE(IsNews(1, WaitCode::kNoRoom));
  EXPECT_TRUE(IsNews(1, WaitCode::kNoRoom, /*full_queue=*/-1, "waits for 2 slots"));
  EXPECT_FALSE(IsNews(1, WaitCode::kNoRoom, /*full_queue=*/-1, "waits for 2 slots"));
  EXPECT_TRUE(IsNews(1, WaitCode::kTurn));
  Place(1);
  Update();
  EXPECT_FALSE(IsNews(0, WaitCode::kTurn)) << "the second job has moved up in the list";
  // What was said of it is overwritten by the history that follows.
  jobs_->SetHeld(turn_, Record(2), true, "held");
  jobs_->SetHeld(turn_, Record(2), false, "released");
  Update();
  EXPECT_TRUE(IsNews(0, WaitCode::kTurn));
}

// Whatever happens in whatever order between two passes, the book is what a fresh look would give.
TEST_F(QueueBookTest, AnyHistory_IsWhatAFreshLookGives) {
  std::mt19937 random(1227);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  std::set<uint64_t> placed, failed, held;
  const auto any = [&](const std::set<uint64_t>& of) {
    return *std::next(of.begin(), below(of.size()));
  };
  for (int step = 0; step < 3000; ++step) {
    turn_.unix_millis += static_cast<int64_t>(below(50));
    switch (below(7)) {
      case 0:
        Submit();
        break;
      case 1:
        if (queue_.empty() || !jobs_->queued().contains(queue_[0].submit_order)) break;
        if (placed.contains(queue_[0].submit_order) || failed.contains(queue_[0].submit_order))
          break;
        Place(queue_[0].submit_order);
        placed.insert(queue_[0].submit_order);
        break;
      case 2:
        if (placed.empty()) break;
        failed.insert(any(placed));
        for (const uint64_t job : failed) {
          if (placed.erase(job) > 0) Fail(job, static_cast<int64_t>(below(400)));
        }
        break;
      case 3:
        if (failed.empty()) break;
        {
          const uint64_t job = any(failed);
          RanksAreGone(job);
          failed.erase(job);
        }
        break;
      case 4: {
        if (jobs_->queued().empty()) break;
        const uint64_t job = any(jobs_->queued());
        jobs_->SetHeld(turn_, Record(job), true, "held");
        held.insert(job);
        break;
      }
      case 5: {
        if (held.empty()) break;
        const uint64_t job = any(held);
        jobs_->SetHeld(turn_, Record(job), false, "released");
        held.erase(job);
        break;
      }
      default: {
        std::vector<uint64_t> expected;
        for (const uint64_t job : jobs_->queued()) {
          if (attempts_->HasAttemptOf(job)) continue;
          if (Record(job).retry_unix_millis() <= turn_.unix_millis) expected.push_back(job);
        }
        ASSERT_EQ(Update(), expected) << "step " << step;
        for (const QueuedJob& job : queue_) ASSERT_EQ(job.job_id, FormatJobId(job.submit_order));
      }
    }
  }
  EXPECT_GT(jobs_->queued().size(), 10U) << "the history was about nothing";
}

}  // namespace
}  // namespace moe::coordinator
