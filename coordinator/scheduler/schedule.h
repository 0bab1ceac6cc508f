// Which queued jobs start now, where, and why the others do not. A pure function.
//
// Order: jobs for which others were stopped; higher priority first; then the account that has used
// least of late, by its queue's weight; then earlier submission. A job gets all of its slots at
// once or none.
//
// Quotas: no queue exceeds its limit, nor that of a queue above it. Within its quota a queue is
// entitled to its slots; beyond, it borrows what others leave idle and lend.
//
// Reservation: a job that the cluster could hold but has no room for keeps its place. Nothing
// behind it is started on slots that it could use, except for what certainly does not delay it:
// jobs whose time limit ends before the running ones' limits make the room, and jobs that fit into
// what is left beside it then. A job that is wider than the whole cluster, or over its quota,
// blocks nobody outside its queue.
//
// Pre-emption (victims.h): a job that has no room may stop running jobs, only where that makes the
// room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/scheduler/snapshot.h"

namespace moe::coordinator {

struct SlotGrant {
  std::string worker_id;
  std::vector<int32_t> slots;
};

struct PlacedJob {
  std::string job_id;
  std::vector<SlotGrant> grants;
};

// Why a job does not start.
enum class WaitCode {
  kNoWorker,    // no worker is connected
  kTooWide,     // the connected workers could never hold it
  kNoRoom,      // it is next, and waits for slots
  kTurn,        // others come first
  kQueueLimit,  // its queue, or one above, would exceed its limit
  kQuotaInUse,  // its queue has used its quota, and others keep what is idle
};

struct WaitingJob {
  std::string job_id;
  size_t index = 0;    // into ScheduleSnapshot::queue
  std::string reason;  // a sentence that stays the same while nothing relevant changes
  WaitCode code = WaitCode::kTurn;
  std::string behind = {};  // for kTurn, who comes first: may change with every pass
  int32_t full_queue = -1;  // whose limit or quota keeps it, or the one before it, waiting
  // For kNoRoom: it certainly has its slots by then, by the bounds of what runs.
  double start_by_seconds = kNoBound;
};

struct PreemptedJob {
  std::string job_id;
  std::string for_job_id;
  double lost_slot_seconds = 0;  // what it costs
};

struct Schedule {
  std::vector<PlacedJob> placed;
  std::vector<WaitingJob> waiting;  // in the order of the queue
  std::vector<PreemptedJob> preempted;
  // How long until a minimum run time ends that a pre-emption waits for; negative: there is none.
  double next_preemption_seconds = -1;
};

// A job goes to the worker with the fewest free slots that still hold all of it; where none does,
// it is spread over the fewest workers. Ties go to the earlier worker.
//
// Cost: linear in jobs and workers, plus workers for each job that starts. 100,000 jobs on 10,000
// workers take tens of milliseconds (tests/bench/scheduler.cc).
Schedule PlanSchedule(const ScheduleSnapshot& snapshot, const SchedulePolicy& policy = {});

}  // namespace moe::coordinator
