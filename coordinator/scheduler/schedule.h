// Which queued jobs start now, where, and why the others do not. A pure function.
//
// Order: higher priority first, then earlier submission. A job gets all of its slots at once or
// none. A job that the cluster could hold but has no room for now keeps its place: nothing behind
// it is started in its stead, so that wide jobs do not starve. A job that is wider than the whole
// cluster blocks nobody.
//
// Pre-emption: the first job that has no room may stop running jobs of lower priority. It does so
// only where that makes the room, and it stops no job without which there would be room too. The
// lowest priority goes first, then whoever loses the least work. Since only a higher priority takes
// slots, two jobs never take them from each other in turn.
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

// A job that holds slots.
struct PlacedNow {
  std::string job_id;
  int32_t priority = 0;
  bool preemptible = true;
  bool stopping = false;                  // its slots become free without anybody's doing
  double running_seconds = 0;             // of this attempt
  double lost_work_seconds = 0;           // what would have to be done again
  std::vector<std::string> slot_workers;  // the worker of each of its slots
};

struct SchedulePolicy {
  bool preempt = true;
  double minimum_run_seconds = 30;  // an attempt is left alone for so long
};

struct ScheduleSnapshot {
  std::vector<QueuedJob> queue;      // in any order
  std::vector<WorkerSlots> workers;  // those that can be given work now
  std::vector<PlacedNow> placed;     // in any order
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

struct PreemptedJob {
  std::string job_id;
  std::string for_job_id;
};

struct Schedule {
  std::vector<PlacedJob> placed;
  std::vector<WaitingJob> waiting;  // in the order of the queue
  std::vector<PreemptedJob> preempted;
  // How long until a minimum run time ends that a pre-emption waits for; negative: there is none.
  double next_preemption_seconds = -1;
};

// A job goes to the worker with the fewest free slots that still hold all of it; where none does,
// it is spread over the fewest workers. Ties go to the smaller worker id.
Schedule PlanSchedule(ScheduleSnapshot snapshot, const SchedulePolicy& policy = {});

}  // namespace moe::coordinator
