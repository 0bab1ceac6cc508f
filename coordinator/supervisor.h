// Runs attempts: places jobs, starts ranks, applies their reports, commits their artefacts, decides
// what their end means. Belongs to the loop's thread (coordinator/turn.h).
//
// An attempt lives from its placement until all of its ranks are gone. It has *ended* once its
// outcome is decided, which may be earlier: the job moves on at once, while the slots stay held
// until the ranks are gone. Everything a worker sends is fenced by the attempt: what belongs to
// no attempt that lives on that worker is void and answered with ForgetAttempt, and an attempt that
// has ended can change nothing but its own logs.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/artefact_files.h"
#include "coordinator/attempt.h"
#include "coordinator/attempt_outcome.h"
#include "coordinator/catalog.h"
#include "coordinator/job_table.h"
#include "coordinator/log_followers.h"
#include "coordinator/outputs.h"
#include "coordinator/run_spec.h"
#include "coordinator/sampler/domain_sampler.h"
#include "coordinator/scheduler/schedule.h"
#include "coordinator/supervisor_observer.h"
#include "coordinator/turn.h"
#include "coordinator/worker_messages.h"
#include "coordinator/worker_registry.h"
#include "moe/v1/worker_service.pb.h"
#include "storage/rocks/store.h"

namespace moe::coordinator {

class Supervisor {
 public:
  struct Options {
    std::string artefact_root;
    int32_t stop_grace_ms = 10000;    // between the wish to stop and the kill
    int64_t retry_backoff_ms = 1000;  // after the first failure; doubles
    int64_t max_retry_backoff_ms = 30000;
    // Between a pre-emption and the kill: a step, and the writing of a checkpoint.
    int32_t preempt_grace_ms = 300000;
    // A job avoids a worker on which so many of its attempts failed, while others could hold it.
    int32_t failures_to_avoid_worker = 2;
    SchedulePolicy policy;
  };
  struct Parts {
    storage::Store* store = nullptr;
    JobTable* jobs = nullptr;
    Catalog* catalog = nullptr;
    DomainSampler* sampler = nullptr;
    WorkerRegistry* workers = nullptr;
    const ArtefactFiles* files = nullptr;
    FileWork* file_work = nullptr;
    TurnQueue* queue = nullptr;  // for coming back from file work
    SupervisorObserver* observer = nullptr;
  };

  Supervisor(Options options, Parts parts);

  // Takes up the attempts that lived when the coordinator ended; their workers have one lease TTL
  // to come back. Removes folders that the catalogue does not know.
  absl::Status Load(int64_t monotonic_millis);

  // Asks for the end of a job (JobService.CancelJob). FAILED_PRECONDITION where it has ended
  // another way.
  absl::Status Cancel(Turn& turn, v1::JobRecord& record, const std::string& reason);

  // JobService.HoldJob, ReleaseJob and PreemptJob; errors are FAILED_PRECONDITION.
  absl::Status Hold(Turn& turn, v1::JobRecord& record, const std::string& reason);
  absl::Status Release(Turn& turn, v1::JobRecord& record);
  absl::Status Preempt(Turn& turn, v1::JobRecord& record, const std::string& reason);
  // JobService.ExplainJob. Changes nothing.
  v1::ExplainJobResponse Explain(const v1::JobRecord& record, int64_t unix_millis,
                                 int64_t monotonic_millis);

  // From the worker's stream. An error ends the stream; the worker then registers again and learns
  // what is durable.
  absl::Status OnRegister(Turn& turn, const v1::Register& hello,
                          std::shared_ptr<WorkerSession> session);
  void OnHeartbeat(Turn& turn, const std::string& worker_id, const v1::Heartbeat& heartbeat);
  absl::Status OnReports(Turn& turn, const std::string& worker_id, const v1::ReportBatch& batch);
  absl::Status OnLog(Turn& turn, const std::string& worker_id, const v1::LogChunk& chunk);
  void OnRankExited(Turn& turn, const std::string& worker_id, const v1::RankExited& exited);

  // There are new jobs.
  void Wake() { schedule_needed_ = true; }
  // Schedules if anything changed, ends what was lost. At the end of every group of changes.
  void BeforeCommit(Turn& turn);
  // When BeforeCommit wants to run next without any change; monotonic, INT64_MAX for never.
  int64_t NextDeadlineMillis() const { return next_deadline_millis_; }

  // Whether ranks of this attempt may still write to their logs.
  bool IsAlive(uint64_t job, int32_t attempt) const { return attempts_.contains({job, attempt}); }
  LogFollowers& log_followers() { return log_followers_; }

 private:
  Attempt* FindOn(const v1::AttemptRef& ref, int32_t rank, const std::string& worker_id);
  v1::JobRecord& JobOf(const Attempt& attempt) { return *parts_.jobs->Find(attempt.job); }

  void Schedule(Turn& turn);
  // What the scheduler decides upon. Notes when the next back-off ends.
  ScheduleSnapshot Snapshot(int64_t unix_millis, int64_t monotonic_millis);
  // Where the job has failed too often, unless it would then have nowhere to run.
  std::vector<std::string> WorkersToAvoid(uint64_t job, int32_t slots,
                                          const std::vector<WorkerSlots>& workers) const;
  // Ends the attempt with a checkpoint; the job comes back to the queue.
  void StopForLater(Turn& turn, v1::JobRecord& record, const std::string& text);
  void Place(Turn& turn, v1::JobRecord& record, const std::vector<SlotGrant>& grants);

  // Applies what is pending of a rank, until it has to wait for a check.
  void Drain(Turn& turn, Attempt& attempt, int32_t rank);
  void Apply(Turn& turn, Attempt& attempt, int32_t rank, const v1::RankReport& report);
  void ApplyDomainLosses(Turn& turn, Attempt& attempt, const v1::DomainLosses& losses);
  void ApplyStep(Turn& turn, Attempt& attempt, const v1::StepReport& step);
  void ApplyExit(Turn& turn, Attempt& attempt, int32_t rank);
  void CheckArtefact(Turn& turn, Attempt& attempt, int32_t rank, const v1::RankReport& report);
  void Decide(Turn& turn, AttemptId id, int32_t rank, const v1::RankReport& report,
              const absl::Status& checked);
  void SaveRank(Turn& turn, const Attempt& attempt, int32_t rank);

  // Looks whether the attempt has ended and whether all of it is gone. May remove the attempt.
  void Settle(Turn& turn, AttemptId id);
  void EndBadly(Turn& turn, Attempt& attempt, const Failure& failure);
  void MarkEnded(Turn& turn, Attempt& attempt);
  void Retire(Turn& turn, Attempt& attempt);
  void LoseRanksOn(Turn& turn, const std::string& worker_id);
  void LoseAttemptOn(Turn& turn, Attempt& attempt, const std::string& worker_id,
                     const std::string& why);

  const Options options_;
  const Parts parts_;
  AttemptMap attempts_;
  WorkerMessages messages_;
  Outputs outputs_;
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  bool schedule_needed_ = true;
  int64_t retry_unix_millis_ = kNever;  // when the next job's back-off ends
  int64_t preemption_millis_ = kNever;  // when a minimum run time ends; monotonic
  int64_t next_deadline_millis_ = 0;
  // Of jobs that are live: on which workers their attempts failed, and how often. Not stored: after
  // a restart every worker has another chance.
  std::map<uint64_t, std::map<std::string, int32_t>> failures_on_;
  LogFollowers log_followers_;
};

}  // namespace moe::coordinator
