// Which queued jobs start now, where, and why the others do not. A pure function.
//
// Order: higher priority first, then earlier submission. A job gets all of its slots at once or
// none. A job that the cluster could hold but has no room for now keeps its place: nothing behind
// it is started in its stead, so that wide jobs do not starve. A job that is wider than the whole
// cluster blocks nobody.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moe::coordinator {

struct QueuedJob {
  std::string job_id;
  int32_t priority = 0;
  uint64_t submit_order = 0;  // unique
  int32_t slots = 1;
};

struct WorkerSlots {
  std::string worker_id;
  int32_t total = 0;
  std::vector<int32_t> free;  // indices, ascending
};

struct ScheduleSnapshot {
  std::vector<QueuedJob> queue;      // in any order
  std::vector<WorkerSlots> workers;  // those that can be given work now
};

struct SlotGrant {
  std::string worker_id;
  std::vector<int32_t> slots;
};

struct PlacedJob {
  std::string job_id;
  std::vector<SlotGrant> grants;
};

struct WaitingJob {
  std::string job_id;
  std::string reason;  // a sentence that stays the same while nothing relevant changes
};

struct Schedule {
  std::vector<PlacedJob> placed;
  std::vector<WaitingJob> waiting;
};

// A job goes to the worker with the fewest free slots that still hold all of it; where none does,
// it is spread over the fewest workers. Ties go to the smaller worker id.
Schedule PlanSchedule(ScheduleSnapshot snapshot);

}  // namespace moe::coordinator
