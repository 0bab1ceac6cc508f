#include "coordinator/scheduler/schedule.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <tuple>

namespace moe::coordinator {
namespace {

std::string Slots(int64_t count) { return fmt::format("{} slot{}", count, count == 1 ? "" : "s"); }

// Takes `wanted` slots, which the workers have together.
std::vector<SlotGrant> Take(int32_t wanted, std::vector<WorkerSlots>& workers) {
  std::vector<WorkerSlots*> by_room;
  for (WorkerSlots& worker : workers) {
    if (!worker.free.empty()) by_room.push_back(&worker);
  }
  std::sort(by_room.begin(), by_room.end(), [](const WorkerSlots* a, const WorkerSlots* b) {
    return std::tuple(a->free.size(), std::cref(a->worker_id).get()) <
           std::tuple(b->free.size(), std::cref(b->worker_id).get());
  });
  const auto fits = std::find_if(by_room.begin(), by_room.end(), [&](const WorkerSlots* worker) {
    return worker->free.size() >= static_cast<size_t>(wanted);
  });
  std::vector<WorkerSlots*> chosen;
  if (fits != by_room.end()) {
    chosen.push_back(*fits);
  } else {
    std::stable_sort(
        by_room.begin(), by_room.end(),
        [](const WorkerSlots* a, const WorkerSlots* b) { return a->free.size() > b->free.size(); });
    chosen = by_room;
  }
  std::vector<SlotGrant> grants;
  for (WorkerSlots* worker : chosen) {
    if (wanted == 0) break;
    const auto count = std::min<size_t>(worker->free.size(), static_cast<size_t>(wanted));
    const auto end = worker->free.begin() + static_cast<std::ptrdiff_t>(count);
    grants.push_back({worker->worker_id, {worker->free.begin(), end}});
    worker->free.erase(worker->free.begin(), end);
    wanted -= static_cast<int32_t>(count);
  }
  return grants;
}

std::set<std::string> UsableWorkers(const ScheduleSnapshot& snapshot) {
  std::set<std::string> usable;
  for (const WorkerSlots& worker : snapshot.workers) usable.insert(worker.worker_id);
  return usable;
}

int64_t UsableSlots(const PlacedNow& job, const std::set<std::string>& usable) {
  return std::count_if(job.slot_workers.begin(), job.slot_workers.end(),
                       [&](const std::string& worker) { return usable.contains(worker); });
}

// Slots that are on their way to being free, on workers that can be given work.
int64_t ComingSlots(const ScheduleSnapshot& snapshot) {
  const std::set<std::string> usable = UsableWorkers(snapshot);
  int64_t coming = 0;
  for (const PlacedNow& job : snapshot.placed) {
    if (job.stopping) coming += UsableSlots(job, usable);
  }
  return coming;
}

// Whom a job of `priority` that is short of `missing` slots stops; empty where that cannot help.
// `wait_seconds` becomes the time until it can, where only minimum run times are in the way.
std::vector<const PlacedNow*> Victims(const ScheduleSnapshot& snapshot,
                                      const SchedulePolicy& policy, int32_t priority,
                                      int64_t missing, double* wait_seconds) {
  const std::set<std::string> usable = UsableWorkers(snapshot);
  std::vector<const PlacedNow*> candidates;
  std::vector<double> waits;
  int64_t sometime = 0;
  for (const PlacedNow& job : snapshot.placed) {
    const int64_t slots = UsableSlots(job, usable);
    if (job.stopping || !job.preemptible || job.priority >= priority || slots == 0) continue;
    sometime += slots;
    if (job.running_seconds >= policy.minimum_run_seconds) {
      candidates.push_back(&job);
    } else {
      waits.push_back(policy.minimum_run_seconds - job.running_seconds);
    }
  }
  std::sort(candidates.begin(), candidates.end(), [](const PlacedNow* a, const PlacedNow* b) {
    return std::tie(a->priority, a->lost_work_seconds, a->running_seconds, a->job_id) <
           std::tie(b->priority, b->lost_work_seconds, b->running_seconds, b->job_id);
  });
  std::vector<const PlacedNow*> victims;
  int64_t freed = 0;
  for (const PlacedNow* job : candidates) {
    if (freed >= missing) break;
    victims.push_back(job);
    freed += UsableSlots(*job, usable);
  }
  if (freed < missing) {
    if (sometime >= missing && !waits.empty()) {
      *wait_seconds = *std::min_element(waits.begin(), waits.end());
    }
    return {};
  }
  // Whoever turned out not to be needed goes on, the dearest first.
  for (auto it = victims.end(); it != victims.begin();) {
    --it;
    const int64_t slots = UsableSlots(**it, usable);
    if (freed - slots < missing) continue;
    freed -= slots;
    it = victims.erase(it);
  }
  return victims;
}

}  // namespace

Schedule PlanSchedule(ScheduleSnapshot snapshot, const SchedulePolicy& policy) {
  std::sort(
      snapshot.queue.begin(), snapshot.queue.end(), [](const QueuedJob& a, const QueuedJob& b) {
        return std::tuple(-a.priority, a.submit_order) < std::tuple(-b.priority, b.submit_order);
      });
  int64_t total = 0;
  int64_t free = 0;
  for (const WorkerSlots& worker : snapshot.workers) {
    total += worker.total;
    free += static_cast<int64_t>(worker.free.size());
  }

  Schedule schedule;
  const QueuedJob* blocker = nullptr;
  for (const QueuedJob& job : snapshot.queue) {
    if (snapshot.workers.empty()) {
      schedule.waiting.push_back({job.job_id, "no worker is connected"});
    } else if (job.slots > total) {
      schedule.waiting.push_back(
          {job.job_id, fmt::format("needs {}; all connected workers together have {}",
                                   Slots(job.slots), total)});
    } else if (blocker != nullptr) {
      schedule.waiting.push_back(
          {job.job_id, fmt::format("waits behind {}, which comes first", blocker->job_id)});
    } else if (job.slots > free) {
      blocker = &job;
      std::string reason = fmt::format("waits for {} to become free", Slots(job.slots));
      const int64_t missing = job.slots - free - ComingSlots(snapshot);
      if (policy.preempt && missing > 0) {
        std::vector<std::string> ids;
        for (const PlacedNow* victim :
             Victims(snapshot, policy, job.priority, missing, &schedule.next_preemption_seconds)) {
          schedule.preempted.push_back({victim->job_id, job.job_id});
          ids.push_back(victim->job_id);
        }
        if (!ids.empty()) reason += fmt::format(", and takes them from {}", fmt::join(ids, ", "));
      }
      schedule.waiting.push_back({job.job_id, reason});
    } else {
      schedule.placed.push_back({job.job_id, Take(job.slots, snapshot.workers)});
      free -= job.slots;
    }
  }
  return schedule;
}

}  // namespace moe::coordinator
