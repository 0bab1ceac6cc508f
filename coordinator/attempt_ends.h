// How attempts end: what the ends of the ranks mean for the job, who is told to stop, and when the
// slots become free. Belongs to the loop's thread (coordinator/turn.h).
//
// An attempt has *ended* once its outcome is decided; the job moves on at once. It is *over*, and
// its slots free, once all of its ranks are gone as well.
#pragma once

#include <cstdint>
#include <string>

#include "coordinator/artefact_files.h"
#include "coordinator/attempt_outcome.h"
#include "coordinator/attempt_table.h"
#include "coordinator/catalog.h"
#include "coordinator/doorbell.h"
#include "coordinator/job_table.h"
#include "coordinator/ledger/slot_ledger.h"
#include "coordinator/log_followers.h"
#include "coordinator/outputs.h"
#include "coordinator/supervisor_options.h"
#include "coordinator/turn.h"
#include "coordinator/worker_messages.h"

namespace moe::coordinator {

class AttemptEnds {
 public:
  struct Parts {
    AttemptTable* attempts = nullptr;
    JobTable* jobs = nullptr;
    Catalog* catalog = nullptr;
    Outputs* outputs = nullptr;
    WorkerMessages* messages = nullptr;
    const ArtefactFiles* files = nullptr;
    FileWork* file_work = nullptr;
    LogFollowers* log_followers = nullptr;
    SlotLedger* ledger = nullptr;
    Doorbell* doorbell = nullptr;
  };
  AttemptEnds(const SupervisorOptions& options, Parts parts) : options_(options), parts_(parts) {}

  // Of a job that is STARTING or RUNNING: ends the attempt, and the job with it.
  void StopForGood(Turn& turn, v1::JobRecord& record, const std::string& text);
  // Ends it with a checkpoint; the job comes back to the queue.
  void StopForLater(Turn& turn, v1::JobRecord& record, const std::string& text);
  // Ends it with a checkpoint, and the job with it: its time is nearly over. After `notice_ms` what
  // is left is killed.
  void StopAtLimit(Turn& turn, v1::JobRecord& record, const std::string& text, int64_t notice_ms);
  // Kills the attempt, of which `rank` stood still; the job comes back to the queue.
  void StopHung(Turn& turn, v1::JobRecord& record, int32_t rank, const std::string& text);
  // A job that was to come back later is not to any more.
  void StopForGoodAfterAll(Turn& turn, v1::JobRecord& record, const std::string& text);

  // Removes what the attempts of a job that has ended left for a later one.
  void RemoveWork(Turn& turn, const v1::Job& job);

  // Looks whether the attempt has ended and whether it is over. May remove the attempt.
  void Settle(Turn& turn, const AttemptId& id);

  // Kills what has not gone within the grace after its attempt ended. Returns the monotonic time
  // at which there may be more to do; INT64_MAX for never.
  int64_t Enforce(Turn& turn);

 private:
  void Decide(Turn& turn, Attempt& attempt, bool all_gone);
  void EndBadly(Turn& turn, Attempt& attempt, const Failure& failure);
  // An attempt of the job failed on this worker, which is then avoided if that came often enough.
  void CountFailureOn(const std::string& worker_id, v1::JobRecord* record) const;
  void TryAgain(Turn& turn, v1::JobRecord& record, const Failure& failure, int64_t delay_ms);
  void MarkEnded(Turn& turn, Attempt& attempt);
  void Retire(Turn& turn, Attempt& attempt);
  Attempt& PresentAttempt(const v1::JobRecord& record);

  const SupervisorOptions& options_;
  const Parts parts_;
};

}  // namespace moe::coordinator
