#include "coordinator/queue_book.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace moe::coordinator {
namespace {

constexpr double kBytesPerGib = 1024.0 * 1024 * 1024;

// Where the job has failed too often, unless it would then have nowhere to run.
std::vector<std::string> WorkersToAvoid(const v1::Job& job,
                                        const std::vector<WorkerSlots>& workers) {
  const auto& avoided = job.avoided_worker_ids();
  int64_t elsewhere = 0;
  for (const WorkerSlots& worker : workers) {
    if (std::find(avoided.begin(), avoided.end(), worker.worker_id) == avoided.end()) {
      elsewhere += worker.total;
    }
  }
  if (elsewhere < job.spec().resources().slots()) return {};
  return {avoided.begin(), avoided.end()};
}

}  // namespace

int32_t AccountBook::Of(const v1::JobSpec& spec, const std::string& user) {
  if (last_ >= 0 && spec.queue() == last_queue_ && user == last_user_) return last_;
  const QueueUsage::Key key = {queues_->QueueOf(spec.queue()), user};
  const auto [it, is_new] = index_.try_emplace(key, static_cast<int32_t>(keys_.size()));
  if (is_new) keys_.push_back(key);
  last_ = it->second;
  last_queue_ = spec.queue();
  last_user_ = user;
  return last_;
}

std::vector<Account> AccountBook::List(int64_t monotonic_millis) const {
  const double now_seconds = static_cast<double>(ledger_->Now(monotonic_millis)) / 1000;
  std::vector<Account> accounts;
  accounts.reserve(keys_.size());
  for (const QueueUsage::Key& key : keys_) {
    accounts.push_back({.queue = key.first, .usage = ledger_->usage().At(key, now_seconds)});
  }
  return accounts;
}

void QueueBook::AddWishes(const v1::JobSpec& spec, QueuedJob* job) {
  job->priority = spec.priority();
  job->slots = spec.resources().slots();
  job->device = spec.resources().device();
  job->memory_bytes = static_cast<int64_t>(spec.resources().memory_gib() * kBytesPerGib);
}

double QueueBook::BoundSeconds(const v1::JobSpec& spec, int64_t held_millis) const {
  if (spec.time_limit_seconds() == 0) return kNoBound;
  const double left =
      static_cast<double>(spec.time_limit_seconds()) - static_cast<double>(held_millis) / 1000;
  // A job that is not done within its limit is killed a moment later.
  return std::max(0.0, left) + static_cast<double>(options_.stop_grace_ms) / 1000;
}

int64_t QueueBook::WaitMillis(const v1::JobRecord& record, int64_t unix_millis) const {
  const int64_t wait_ms = record.retry_unix_millis() - unix_millis;
  // A wait longer than any back-off means that the wall clock was set back.
  return wait_ms > 0 && wait_ms <= options_.retry_backoff.longest_ms ? wait_ms : 0;
}

void QueueBook::Update(int64_t unix_millis, const std::set<uint64_t>& owed,
                       const std::vector<WorkerSlots>& workers, std::vector<QueuedJob>* queue) {
  std::vector<uint64_t> changes = parts_.jobs->TakeQueueChanges();
  std::sort(changes.begin(), changes.end());
  changes.erase(std::unique(changes.begin(), changes.end()), changes.end());
  // Also of a job that left and is back: it is another one now.
  if (!changes.empty() && changes.front() <= newest_) Remove(changes, queue);
  for (const uint64_t number : changes) {
    if (parts_.jobs->queued().contains(number)) {
      not_yet_.insert(number);
    } else {
      not_yet_.erase(number);
    }
  }
  Admit(unix_millis, queue);
  Mark(owed, workers, queue);
}

void QueueBook::Remove(const std::vector<uint64_t>& numbers, std::vector<QueuedJob>* queue) {
  size_t kept = 0;
  for (size_t i = 0; i < queue->size(); ++i) {
    QueuedJob& job = (*queue)[i];
    if (std::binary_search(numbers.begin(), numbers.end(), job.submit_order)) {
      avoiding_.erase(job.submit_order);
      continue;
    }
    if (kept != i) {
      (*queue)[kept] = std::move(job);
      told_[kept] = told_[i];
    }
    ++kept;
  }
  queue->resize(kept);
  told_.resize(kept);
}

void QueueBook::Admit(int64_t unix_millis, std::vector<QueuedJob>* queue) {
  next_retry_unix_millis_ = std::numeric_limits<int64_t>::max();
  for (auto it = not_yet_.begin(); it != not_yet_.end();) {
    const uint64_t number = *it;
    const v1::JobRecord& record = *parts_.jobs->Find(number);
    if (WaitMillis(record, unix_millis) > 0) {
      next_retry_unix_millis_ = std::min(next_retry_unix_millis_, record.retry_unix_millis());
      ++it;
      continue;
    }
    if (parts_.attempts->HasAttemptOf(number)) {  // ranks of the last one are not gone yet
      ++it;
      continue;
    }
    QueuedJob& job = queue->emplace_back();
    told_.emplace_back();
    job.job_id = record.job().job_id();
    job.submit_order = number;
    AddWishes(record.job().spec(), &job);
    job.account = parts_.accounts->Of(record.job().spec(), record.job().user());
    job.bound_seconds = BoundSeconds(record.job().spec(), record.held_millis());
    if (!record.job().avoided_worker_ids().empty()) avoiding_.insert(number);
    newest_ = std::max(newest_, number);
    it = not_yet_.erase(it);
  }
}

void QueueBook::Mark(const std::set<uint64_t>& owed, const std::vector<WorkerSlots>& workers,
                     std::vector<QueuedJob>* queue) {
  if (!owed.empty() || any_owed_) {
    for (QueuedJob& job : *queue) job.owed = owed.contains(job.submit_order);
    any_owed_ = !owed.empty();
  }
  if (avoiding_.empty()) return;
  for (QueuedJob& job : *queue) {
    if (!avoiding_.contains(job.submit_order)) continue;
    job.excluded_workers = WorkersToAvoid(parts_.jobs->Find(job.submit_order)->job(), workers);
  }
}

bool QueueBook::IsNews(const WaitingJob& waiting) {
  // Of its turn there is one thing to say, whoever comes first.
  const bool is_turn = waiting.code == WaitCode::kTurn;
  const Told now = {.code = waiting.code,
                    .full_queue = waiting.full_queue,
                    .sentence = is_turn ? 0 : std::hash<std::string>()(waiting.reason)};
  return std::exchange(told_[waiting.index], now) != now;
}

}  // namespace moe::coordinator
