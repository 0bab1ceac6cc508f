#include "coordinator/scheduler/schedule.h"

#include <fmt/format.h>

#include <algorithm>
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

}  // namespace

Schedule PlanSchedule(ScheduleSnapshot snapshot) {
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
      schedule.waiting.push_back(
          {job.job_id, fmt::format("waits for {} to become free", Slots(job.slots))});
    } else {
      schedule.placed.push_back({job.job_id, Take(job.slots, snapshot.workers)});
      free -= job.slots;
    }
  }
  return schedule;
}

}  // namespace moe::coordinator
