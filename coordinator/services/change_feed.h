// Tells those who follow jobs what has changed: on a thread of its own, so that no request waits
// until everybody is told, and with pauses, so that requests find the machine free. What comes
// meanwhile goes out together.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/job_table.h"
#include "coordinator/services/change_log.h"
#include "coordinator/services/watch_change.h"

namespace moe::coordinator {

// Changes that may wait for a follower, beside those that it asked for when it came.
inline constexpr size_t kMaxBehind = 10'000;

// How long the feed rests after it has `worked`, where a follower had `behind` changes to be told:
// nine times as long while changes come, since requests do then, otherwise as long; and the less
// the nearer that follower is to being cut off.
inline std::chrono::nanoseconds RestAfter(std::chrono::nanoseconds worked, size_t behind,
                                          bool is_busy) {
  const int64_t times = is_busy ? 9 : 1;
  const auto left = static_cast<int64_t>(kMaxBehind - std::min(behind, kMaxBehind));
  return worked * times * left / static_cast<int64_t>(kMaxBehind);
}

class ChangeFeed {
 public:
  // What a follower of all jobs has not taken yet.
  class Untold {
   public:
    Untold(ChangeLog* log, uint64_t* next) : log_(log), next_(next) {}
    size_t size() const { return static_cast<size_t>(log_->end() - *next_); }
    // Not of nothing.
    std::shared_ptr<const WatchChange> TakeOne() { return log_->At((*next_)++); }
    grpc::Slice TakeMessage() { return log_->TakeMessage(next_); }

   private:
    ChangeLog* log_;
    uint64_t* next_;
  };

  // Called on the feed's thread.
  class Follower {
   public:
    virtual ~Follower() = default;
    // Who named jobs takes every change of them; who follows all, only what it had missed.
    virtual void Take(const std::shared_ptr<const WatchChange>& change) = 0;
    // Sends what is to be told, as much as fits into one message, unless one is on its way. What
    // was taken comes before `untold`, which is nullptr for who named jobs. Returns how many
    // changes there were to be told or are on their way. After 0 the next change brings another
    // call, otherwise CanServe does.
    virtual size_t Serve(Untold* untold) = 0;
    // More than kMaxBehind changes were untold, from `revision` on: this was the last call.
    virtual void CutOff(size_t behind, int64_t revision) = 0;

   private:
    friend class ChangeFeed;
    bool is_due_ = false;
    bool is_idle_ = false;
    bool follows_all_ = false;
    uint64_t next_ = 0;  // in the log
  };

  // `jobs` must outlive it.
  explicit ChangeFeed(JobTable* jobs);
  ~ChangeFeed();
  ChangeFeed(const ChangeFeed&) = delete;
  ChangeFeed& operator=(const ChangeFeed&) = delete;

  // `follower` takes `missed` and then every change of `jobs` (empty: of all). On the loop's
  // thread, in the read that took `missed` from JobTable::ChangesSince.
  void Follow(const std::shared_ptr<Follower>& follower, const std::set<uint64_t>& jobs,
              std::vector<JobTable::WatchMessage> missed);
  // On the loop's thread.
  void Unfollow(const std::shared_ptr<Follower>& follower);
  // From any thread: what the follower was sent has gone.
  void CanServe(const std::shared_ptr<Follower>& follower);

 private:
  using Followers = std::set<std::shared_ptr<Follower>>;

  // On the loop's thread.
  bool Wants(uint64_t job) const { return num_of_all_ > 0 || wanted_.contains(job); }

  void Post(std::function<void()> work);
  void Run();
  // For work, unless there is some already or somebody is due. False at the end.
  bool Wait();
  void Rest(std::chrono::nanoseconds time);

  // On the feed's thread.
  void DoWork(std::chrono::steady_clock::time_point end);
  void Distribute(const JobTable::WatchMessage& message);
  void Give(const std::shared_ptr<Follower>& follower,
            const std::shared_ptr<const WatchChange>& change);
  void MakeDue(const std::shared_ptr<Follower>& follower);
  // Until `end`; the most that one of them had to be told.
  size_t ServeDue(std::chrono::steady_clock::time_point end);
  size_t Serve(const std::shared_ptr<Follower>& follower);
  void TrimLog();

  // Of the loop's thread.
  JobTable* const jobs_;
  std::map<std::shared_ptr<Follower>, std::set<uint64_t>> wishes_;
  int num_of_all_ = 0;              // followers of all jobs
  std::multiset<uint64_t> wanted_;  // by the others
  int64_t watcher_ = 0;             // in jobs_; 0: none

  // Of the feed's thread.
  Followers of_all_;
  ChangeLog log_;                                // for of_all_
  std::vector<std::shared_ptr<Follower>> idle_;  // of of_all_: who was told everything
  std::unordered_map<uint64_t, Followers> of_job_;
  std::deque<std::shared_ptr<Follower>> due_;
  std::deque<std::function<void()>> begun_;  // taken over from work_
  std::chrono::steady_clock::time_point last_news_;

  absl::Mutex mutex_;
  std::vector<std::function<void()>> work_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace moe::coordinator
