// What the scheduler (scheduler/schedule.h) decides upon, taken from the coordinator's state at one
// moment. Changes nothing of it. Belongs to the loop's thread (coordinator/turn.h).
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "coordinator/attempt_table.h"
#include "coordinator/job_table.h"
#include "coordinator/ledger/slot_ledger.h"
#include "coordinator/queue_book.h"
#include "coordinator/queues/queue_tree.h"
#include "coordinator/scheduler/snapshot.h"
#include "coordinator/supervisor_options.h"
#include "coordinator/worker_registry.h"

namespace moe::coordinator {

class ScheduleView {
 public:
  struct Parts {
    const AttemptTable* attempts = nullptr;
    JobTable* jobs = nullptr;
    const WorkerRegistry* workers = nullptr;
    const QueueTree* queues = nullptr;
    const SlotLedger* ledger = nullptr;
  };
  ScheduleView(const SupervisorOptions& options, Parts parts);

  struct Now {
    int64_t unix_millis = 0;
    int64_t monotonic_millis = 0;
  };
  // Jobs for which others were stopped are in `owed`. Good until the next call: what has not
  // changed of the queue stays.
  const ScheduleSnapshot& Take(const Now& now, const std::set<uint64_t>& owed);
  // When the next back-off of a queued job ends, as of the last Take, in Unix milliseconds;
  // INT64_MAX for never.
  int64_t next_retry_unix_millis() const { return queue_.next_retry_unix_millis(); }
  // Whether this, of the last Take, is not what was last said of the job.
  bool IsNews(const WaitingJob& waiting) { return queue_.IsNews(waiting); }

  // A job that does not exist, for asking what would become of it.
  struct Supposed {
    std::string job_id;
    v1::JobSpec spec;
    std::string user;
  };
  ScheduleSnapshot TakeWith(const std::vector<Supposed>& supposed, const Now& now,
                            const std::set<uint64_t>& owed);

 private:
  PlacedNow Placed(const Attempt& attempt, const Now& now) const;

  const Parts parts_;
  AccountBook accounts_;
  QueueBook queue_;
  ScheduleSnapshot snapshot_;
};

}  // namespace moe::coordinator
