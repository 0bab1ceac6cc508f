#include "coordinator/services/change_feed.h"

#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/time/time.h"

namespace moe::coordinator {
namespace {

using SteadyClock = std::chrono::steady_clock;

// Of work, and as much of telling, between two rests.
constexpr std::chrono::microseconds kSlice{250};
// So long after the last change no more are expected soon.
constexpr std::chrono::milliseconds kQuiet{100};
// Of the feed's thread, where others want its core.
constexpr int kNice = 10;

}  // namespace

ChangeFeed::ChangeFeed(JobTable* jobs) : jobs_(jobs), thread_([this] { Run(); }) {}

ChangeFeed::~ChangeFeed() {
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
  }
  thread_.join();
}

// ---------------------------------------------------------------------------------------------
// On the loop's thread

void ChangeFeed::Follow(const std::shared_ptr<Follower>& follower, const std::set<uint64_t>& jobs,
                        std::vector<JobTable::WatchMessage> missed) {
  if (wishes_.empty()) {
    watcher_ = jobs_->AddWatcher([this](uint64_t job) { return Wants(job); },
                                 [this](const JobTable::WatchMessage& message) {
                                   Post([this, message] { Distribute(message); });
                                 });
  }
  wishes_[follower] = jobs;
  wanted_.insert(jobs.begin(), jobs.end());
  if (jobs.empty()) ++num_of_all_;
  Post([this, follower, jobs, missed = std::move(missed)] {
    for (const JobTable::WatchMessage& message : missed) {
      follower->Take(std::make_shared<const WatchChange>(WatchChangeOf(*message)));
    }
    MakeDue(follower);
    if (jobs.empty()) {
      of_all_.insert(follower);
      follower->follows_all_ = true;
      follower->next_ = log_.end();
    }
    for (const uint64_t job : jobs) of_job_[job].insert(follower);
  });
}

void ChangeFeed::Unfollow(const std::shared_ptr<Follower>& follower) {
  const auto wish = wishes_.find(follower);
  if (wish == wishes_.end()) return;
  const std::set<uint64_t> jobs = std::move(wish->second);
  wishes_.erase(wish);
  for (const uint64_t job : jobs) wanted_.erase(wanted_.find(job));
  if (jobs.empty()) --num_of_all_;
  if (wishes_.empty()) jobs_->RemoveWatcher(watcher_);
  Post([this, follower, jobs] {
    of_all_.erase(follower);
    follower->follows_all_ = false;
    std::erase(idle_, follower);
    for (const uint64_t job : jobs) {
      const auto followers = of_job_.find(job);
      followers->second.erase(follower);
      if (followers->second.empty()) of_job_.erase(followers);
    }
  });
}

// ---------------------------------------------------------------------------------------------
// From any thread

void ChangeFeed::CanServe(const std::shared_ptr<Follower>& follower) {
  Post([this, follower] { MakeDue(follower); });
}

void ChangeFeed::Post(std::function<void()> work) {
  absl::MutexLock lock(&mutex_);
  work_.push_back(std::move(work));
}

// ---------------------------------------------------------------------------------------------
// On the feed's thread

void ChangeFeed::Run() {
  // On Linux a thread has a priority of its own.
  if (::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice) != 0) {
    spdlog::warn("watchers are served at the priority of requests: {}", std::strerror(errno));
  }
  while (Wait()) {
    const SteadyClock::time_point start = SteadyClock::now();
    DoWork(start + kSlice);
    const size_t behind = std::max(begun_.size(), ServeDue(SteadyClock::now() + kSlice));
    const SteadyClock::time_point end = SteadyClock::now();
    Rest(RestAfter(end - start, behind, /*is_busy=*/end - last_news_ < kQuiet));
  }
}

bool ChangeFeed::Wait() {
  const auto has_work = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return closing_ || !work_.empty();
  };
  absl::MutexLock lock(&mutex_);
  if (due_.empty() && begun_.empty()) mutex_.Await(absl::Condition(&has_work));
  std::move(work_.begin(), work_.end(), std::back_inserter(begun_));
  work_.clear();
  return !closing_;
}

void ChangeFeed::DoWork(SteadyClock::time_point end) {
  while (!begun_.empty() && SteadyClock::now() < end) {
    begun_.front()();
    begun_.pop_front();
  }
}

void ChangeFeed::Rest(std::chrono::nanoseconds time) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&closing_), absl::FromChrono(time));
}

void ChangeFeed::Distribute(const JobTable::WatchMessage& message) {
  last_news_ = SteadyClock::now();
  const auto change = std::make_shared<const WatchChange>(WatchChangeOf(*message));
  if (!of_all_.empty()) {
    log_.Append(change);
    if (log_.end() - log_.begin() > kMaxBehind) TrimLog();
    for (const std::shared_ptr<Follower>& follower : idle_) {
      follower->is_idle_ = false;
      MakeDue(follower);
    }
    idle_.clear();
  }
  const auto followers = of_job_.find(change->job);
  if (followers == of_job_.end()) return;
  for (const std::shared_ptr<Follower>& follower : followers->second) Give(follower, change);
}

void ChangeFeed::TrimLog() {
  const uint64_t end = log_.end();
  uint64_t least = end;
  for (auto at = of_all_.begin(); at != of_all_.end();) {
    const std::shared_ptr<Follower> follower = *at;
    const auto behind = static_cast<size_t>(end - follower->next_);
    if (behind <= kMaxBehind) {
      least = std::min(least, follower->next_);
      ++at;
      continue;
    }
    follower->CutOff(behind, log_.At(follower->next_)->revision);
    follower->follows_all_ = false;
    at = of_all_.erase(at);
  }
  log_.TrimTo(least);
}

void ChangeFeed::Give(const std::shared_ptr<Follower>& follower,
                      const std::shared_ptr<const WatchChange>& change) {
  follower->Take(change);
  MakeDue(follower);
}

void ChangeFeed::MakeDue(const std::shared_ptr<Follower>& follower) {
  if (std::exchange(follower->is_due_, true)) return;
  due_.push_back(follower);
}

size_t ChangeFeed::Serve(const std::shared_ptr<Follower>& follower) {
  if (!follower->follows_all_) return follower->Serve(nullptr);
  Untold untold(&log_, &follower->next_);
  const size_t waiting = follower->Serve(&untold);
  if (waiting == 0 && !std::exchange(follower->is_idle_, true)) idle_.push_back(follower);
  return waiting;
}

size_t ChangeFeed::ServeDue(SteadyClock::time_point end) {
  size_t most = 0;
  while (!due_.empty()) {
    const std::shared_ptr<Follower> follower = std::move(due_.front());
    due_.pop_front();
    follower->is_due_ = false;
    most = std::max(most, Serve(follower));
    if (SteadyClock::now() >= end) break;
  }
  return most;
}

}  // namespace moe::coordinator
