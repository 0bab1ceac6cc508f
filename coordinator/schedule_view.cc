#include "coordinator/schedule_view.h"

#include <limits>
#include <utility>

#include "coordinator/retry_budget.h"

namespace moe::coordinator {

ScheduleView::ScheduleView(const SupervisorOptions& options, Parts parts)
    : parts_(parts),
      accounts_(parts.queues, parts.ledger),
      queue_(options, {.jobs = parts.jobs, .attempts = parts.attempts, .accounts = &accounts_}) {}

const ScheduleSnapshot& ScheduleView::Take(const Now& now, const std::set<uint64_t>& owed) {
  snapshot_.queues = parts_.queues->rules();
  snapshot_.workers = parts_.workers->Snapshot(now.monotonic_millis);
  queue_.Update(now.unix_millis, owed, snapshot_.workers, &snapshot_.queue);
  snapshot_.placed.clear();
  for (const auto& [id, attempt] : parts_.attempts->all()) {
    const v1::JobRecord& record = parts_.attempts->JobOf(attempt);
    PlacedNow& placed = snapshot_.placed.emplace_back(Placed(attempt, now));
    placed.account = accounts_.Of(record.job().spec(), record.job().user());
    placed.bound_seconds = queue_.BoundSeconds(
        record.job().spec(), parts_.ledger->HeldMillis(record, now.monotonic_millis));
  }
  snapshot_.accounts = accounts_.List(now.monotonic_millis);
  return snapshot_;
}

ScheduleSnapshot ScheduleView::TakeWith(const std::vector<Supposed>& supposed, const Now& now,
                                        const std::set<uint64_t>& owed) {
  ScheduleSnapshot snapshot = Take(now, owed);
  for (size_t i = 0; i < supposed.size(); ++i) {
    QueuedJob& job = snapshot.queue.emplace_back();
    job.job_id = supposed[i].job_id;
    job.submit_order = std::numeric_limits<uint64_t>::max() - supposed.size() + i;  // the newest
    QueueBook::AddWishes(supposed[i].spec, &job);
    job.account = accounts_.Of(supposed[i].spec, supposed[i].user);
    job.bound_seconds = queue_.BoundSeconds(supposed[i].spec, 0);
  }
  snapshot.accounts = accounts_.List(now.monotonic_millis);
  return snapshot;
}

PlacedNow ScheduleView::Placed(const Attempt& attempt, const Now& now) const {
  const v1::Job& job = parts_.attempts->JobOf(attempt).job();
  const auto since = [&](int64_t millis) {
    return static_cast<double>(now.monotonic_millis - millis) / 1000.0;
  };
  PlacedNow placed;
  placed.job_id = job.job_id();
  placed.priority = job.spec().priority();
  placed.preemptible = MayBePreempted(job);
  placed.stopping = attempt.record.ended() || !attempt.stop_reason.empty();
  placed.running_seconds = since(attempt.placed_millis);
  placed.lost_work_seconds = since(attempt.saved_millis);
  // What it took this time it will take again.
  const v1::AttemptLedger& ledger = parts_.ledger->Of(attempt.id());
  if (ledger.millis_size() > v1::ACTIVITY_RESTORING) {
    placed.restore_seconds = static_cast<double>(ledger.millis(v1::ACTIVITY_STARTING) +
                                                 ledger.millis(v1::ACTIVITY_RESTORING)) /
                             1000.0;
  }
  for (const AttemptRank& rank : attempt.ranks) placed.slot_workers.push_back(rank.worker_id);
  return placed;
}

}  // namespace moe::coordinator
