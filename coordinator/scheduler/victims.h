// Whom a job that has no room stops.
//
// Only where that makes the room, and nobody without whom there would be room too. Candidates are
// the jobs of lower priority, and, for a job within its queue's quota, those of other queues that
// are beyond theirs, whatever their priority. A job that would borrow takes nothing from a queue
// that is within its quota, or would be then. So nobody can take slots back from who took them: a
// priority only grows along a chain of pre-emptions of one queue, and what a quota has reclaimed is
// no loan.
//
// The lowest priority goes first, then the smallest loss: slots x (work since the last committed
// checkpoint + what it takes to restore), then the youngest.
#pragma once

#include <cstdint>
#include <vector>

#include "coordinator/scheduler/queue_use.h"
#include "coordinator/scheduler/slot_pool.h"
#include "coordinator/scheduler/snapshot.h"

namespace moe::coordinator {

// What stopping it would throw away, in slot-seconds.
double LostSlotSeconds(const PlacedNow& job);

struct Victims {
  std::vector<size_t> jobs;  // indices into ScheduleSnapshot::placed; empty: stopping cannot help
  int64_t freed = 0;         // slots of the wanted kind
  // Only minimum run times are in the way, and the next of them ends then; negative: not so.
  double wait_seconds = -1;
};

// For `job` of the kind `need`, short of `missing` slots. `taken` marks the victims of this pass.
Victims ChooseVictims(const ScheduleSnapshot& snapshot, const SchedulePolicy& policy,
                      const SlotPool& pool, const QueueUse& use, const QueuedJob& job, int need,
                      int64_t missing, const std::vector<char>& taken);

}  // namespace moe::coordinator
