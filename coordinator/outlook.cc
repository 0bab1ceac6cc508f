#include "coordinator/outlook.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "coordinator/timestamp.h"

namespace moe::coordinator {
namespace {

// An id that no job has: of a job that does not exist.
std::string SupposedId(size_t index) { return fmt::format("new {}", index); }

// "waits for prepare, construct, j17"; empty where it depends on nobody.
std::string WaitsFor(const std::vector<CompleteJob>& jobs, const CompleteJob& job) {
  std::vector<std::string> others;
  for (const int need : job.needs) others.push_back(jobs[static_cast<size_t>(need)].spec.name());
  for (const JobDependency& after : job.after) {
    others.push_back(after.job >= 0 ? jobs[static_cast<size_t>(after.job)].spec.name()
                                    : after.job_id);
  }
  return others.empty() ? "" : fmt::format("waits for {}", fmt::join(others, ", "));
}

}  // namespace

v1::Cause CauseOf(const WaitingJob& waiting) {
  return waiting.full_queue >= 0 ? v1::CAUSE_QUEUE_FULL : v1::CAUSE_NO_FREE_SLOTS;
}

std::vector<v1::Queue> Outlook::Queues(int64_t monotonic_millis) const {
  const double now_seconds = static_cast<double>(parts_.ledger->Now(monotonic_millis)) / 1000;
  std::vector<v1::Queue> queues;
  for (const QueueRules& rules : parts_.queues->rules()) {
    v1::Queue& queue = queues.emplace_back();
    const auto index = static_cast<int32_t>(queues.size()) - 1;
    queue.set_name(rules.name);
    if (rules.parent >= 0) queue.set_parent(parts_.queues->rules(rules.parent).name);
    constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
    queue.set_quota_slots(rules.quota);
    if (rules.limit != kAll) queue.set_limit_slots(rules.limit);
    if (rules.lends != kAll) queue.set_lends_slots(rules.lends);
    queue.set_weight(rules.weight);
    queue.set_takes_jobs(parts_.queues->TakesJobs(index));
    queue.set_usage_slot_seconds(parts_.ledger->usage().OfQueue(index, now_seconds));
  }
  // Each after the one above it, so that from the end every sum is complete before it is passed on.
  const auto of = [&](const v1::Job& job) -> v1::Queue& {
    return queues[static_cast<size_t>(parts_.queues->QueueOf(job.spec().queue()))];
  };
  for (const auto& [id, attempt] : parts_.attempts->all()) {
    v1::Queue& queue = of(parts_.attempts->JobOf(attempt).job());
    queue.set_placed_jobs(queue.placed_jobs() + 1);
    queue.set_used_slots(queue.used_slots() + static_cast<int64_t>(attempt.ranks.size()));
  }
  for (const uint64_t number : parts_.jobs->queued()) {
    const v1::Job& job = parts_.jobs->Find(number)->job();
    v1::Queue& queue = of(job);
    queue.set_queued_jobs(queue.queued_jobs() + 1);
    queue.set_queued_slots(queue.queued_slots() + job.spec().resources().slots());
  }
  for (size_t i = queues.size(); i-- > 0;) {
    const int32_t parent = parts_.queues->rules(static_cast<int32_t>(i)).parent;
    if (parent < 0) continue;
    v1::Queue& above = queues[static_cast<size_t>(parent)];
    const v1::Queue& queue = queues[i];
    above.set_placed_jobs(above.placed_jobs() + queue.placed_jobs());
    above.set_used_slots(above.used_slots() + queue.used_slots());
    above.set_queued_jobs(above.queued_jobs() + queue.queued_jobs());
    above.set_queued_slots(above.queued_slots() + queue.queued_slots());
    above.set_usage_slot_seconds(above.usage_slot_seconds() + queue.usage_slot_seconds());
  }
  return queues;
}

v1::ExplainJobResponse Outlook::Explain(const v1::JobRecord& record,
                                        const ScheduleView::Now& now) const {
  v1::ExplainJobResponse response;
  *response.mutable_job() = record.job();
  const std::vector<v1::Queue> queues = Queues(now.monotonic_millis);
  const int32_t queue = parts_.queues->QueueOf(record.job().spec().queue());
  *response.mutable_queue() = queues[static_cast<size_t>(queue)];
  const ScheduleSnapshot& snapshot = parts_.view->Take(now, *parts_.owed);
  for (const WorkerSlots& worker : snapshot.workers) {
    response.set_total_slots(response.total_slots() + worker.total);
    response.set_free_slots(response.free_slots() + static_cast<int32_t>(worker.free.size()));
  }
  if (record.job().state() != v1::JOB_STATE_QUEUED) return response;
  if (record.retry_unix_millis() > now.unix_millis) {
    *response.mutable_retry_time() = ToTimestamp(record.retry_unix_millis());
  }
  const Schedule schedule = PlanSchedule(snapshot, options_.policy);
  for (const WaitingJob& waiting : schedule.waiting) {
    if (waiting.job_id == record.job().job_id()) {
      if (waiting.full_queue >= 0) {
        *response.mutable_full_queue() = queues[static_cast<size_t>(waiting.full_queue)];
      }
      break;
    }
    response.add_ahead_job_ids(waiting.job_id);
  }
  for (const PreemptedJob& preempted : schedule.preempted) {
    if (preempted.for_job_id == record.job().job_id()) {
      response.add_preempted_job_ids(preempted.job_id);
    }
  }
  return response;
}

v1::PlanPipelineResponse Outlook::Plan(const std::vector<CompleteJob>& jobs,
                                       const std::string& user,
                                       const ScheduleView::Now& now) const {
  std::vector<ScheduleView::Supposed> supposed;
  for (size_t i = 0; i < jobs.size(); ++i) {
    if (WaitsFor(jobs, jobs[i]).empty()) supposed.push_back({SupposedId(i), jobs[i].spec, user});
  }
  const Schedule schedule =
      PlanSchedule(parts_.view->TakeWith(supposed, now, *parts_.owed), options_.policy);
  v1::PlanPipelineResponse response;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const std::string waits_for = WaitsFor(jobs, jobs[i]);
    if (waits_for.empty()) {
      *response.add_jobs() = Planned(SupposedId(i), jobs[i].spec, schedule, now.unix_millis);
      continue;
    }
    v1::PlannedJob& planned = *response.add_jobs();
    planned.set_name(jobs[i].spec.name());
    planned.set_cause(v1::CAUSE_NEEDS_UNMET);
    planned.set_reason(waits_for);
  }
  return response;
}

v1::PlannedJob Outlook::Planned(const std::string& job_id, const v1::JobSpec& spec,
                                const Schedule& schedule, int64_t unix_millis) const {
  v1::PlannedJob planned;
  planned.set_name(spec.name());
  for (const PlacedJob& placed : schedule.placed) {
    if (placed.job_id != job_id) continue;
    for (const SlotGrant& grant : placed.grants) {
      v1::Placement& placement = *planned.add_placements();
      placement.set_worker_id(grant.worker_id);
      placement.mutable_slots()->Add(grant.slots.begin(), grant.slots.end());
    }
    return planned;
  }
  for (const WaitingJob& waiting : schedule.waiting) {
    if (waiting.job_id != job_id) {
      // Others that do not exist are not ahead of it in any queue that one can see.
      if (parts_.jobs->Find(waiting.job_id) != nullptr) planned.add_ahead_job_ids(waiting.job_id);
      continue;
    }
    planned.set_cause(CauseOf(waiting));
    planned.set_reason(waiting.reason);
    if (waiting.start_by_seconds < kNoBound) {
      *planned.mutable_start_by_time() =
          ToTimestamp(unix_millis + static_cast<int64_t>(waiting.start_by_seconds * 1000));
    }
    break;
  }
  for (const PreemptedJob& preempted : schedule.preempted) {
    if (preempted.for_job_id != job_id) continue;
    v1::PlannedStop& stop = *planned.add_stops();
    stop.set_job_id(preempted.job_id);
    stop.set_name(parts_.jobs->Find(preempted.job_id)->job().spec().name());
    stop.set_lost_slot_seconds(preempted.lost_slot_seconds);
  }
  return planned;
}

}  // namespace moe::coordinator
