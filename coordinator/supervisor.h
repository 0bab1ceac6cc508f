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
#include "coordinator/catalog.h"
#include "coordinator/job_table.h"
#include "coordinator/run_spec.h"
#include "coordinator/scheduler/schedule.h"
#include "coordinator/turn.h"
#include "coordinator/worker_registry.h"
#include "moe/v1/worker_service.pb.h"
#include "storage/rocks/store.h"

namespace moe::coordinator {

// What is worth counting; called on the loop's thread.
class SupervisorObserver {
 public:
  virtual ~SupervisorObserver() = default;
  virtual void OnSchedulePass(double seconds) {}
  virtual void OnPlaced(const v1::Job& job, double queue_wait_seconds) {}
  virtual void OnStep(const v1::Job& job, const v1::StepReport& step) {}
  virtual void OnReplayMismatch(const v1::Job& job) {}
  virtual void OnArtefact(const v1::Job& job, const v1::Artefact& artefact,
                          const v1::ArtefactWritten& written) {}
  virtual void OnCheckpointFailed(const v1::Job& job) {}
  virtual void OnStaleMessage() {}
};

class Supervisor {
 public:
  struct Options {
    std::string artefact_root;
    int32_t stop_grace_ms = 10000;    // between the wish to stop and the kill
    int64_t retry_backoff_ms = 1000;  // after the first failure; doubles
    int64_t max_retry_backoff_ms = 30000;
  };
  struct Parts {
    storage::Store* store = nullptr;
    JobTable* jobs = nullptr;
    Catalog* catalog = nullptr;
    WorkerRegistry* workers = nullptr;
    const ArtefactFiles* files = nullptr;
    FileWork* file_work = nullptr;
    TurnQueue* queue = nullptr;  // for coming back from file work
    SupervisorObserver* observer = nullptr;
  };

  Supervisor(Options options, Parts parts) : options_(std::move(options)), parts_(parts) {}

  // Takes up the attempts that lived when the coordinator ended; their workers have one lease TTL
  // to come back. Removes folders that the catalogue does not know.
  absl::Status Load(int64_t monotonic_millis);

  // Asks for the end of a job (JobService.CancelJob). FAILED_PRECONDITION where it has ended
  // another way.
  absl::Status Cancel(Turn& turn, v1::JobRecord& record, const std::string& reason);

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
  // Calls `tell` when a log of the job has grown or will not grow any more. Returns an id.
  int64_t AddLogFollower(uint64_t job, std::function<void()> tell);
  void RemoveLogFollower(int64_t id) { log_followers_.erase(id); }
  void TellLogFollowers(Turn& turn, uint64_t job);

 private:
  using AttemptId = std::pair<uint64_t, int32_t>;

  struct Rank {
    std::string worker_id;
    int32_t slot = 0;
    v1::RankRecord record;
    int64_t received_seq = 0;            // of the newest report in `pending` or applied
    std::deque<v1::RankReport> pending;  // received, not applied: an artefact is being checked
    bool checking = false;
    std::optional<v1::RankExited> exited;  // waits for `pending`
    bool settled() const {
      return record.gone() || record.final_case() != v1::RankRecord::FINAL_NOT_SET;
    }
  };

  struct Attempt {
    uint64_t job = 0;
    int32_t number = 0;
    v1::AttemptRecord record;
    std::vector<Rank> ranks;
    std::string stop_reason;           // empty: not asked to stop
    std::optional<int> first_to_fail;  // rank
    int64_t ended_millis = 0;          // monotonic
    AttemptId id() const { return {job, number}; }
  };

  // How an attempt that did not succeed ended.
  struct Failure {
    v1::Cause cause = v1::CAUSE_UNSPECIFIED;
    std::string reason;
  };

  Attempt* FindOn(const v1::AttemptRef& ref, int32_t rank, const std::string& worker_id);
  v1::JobRecord& JobOf(const Attempt& attempt) { return *parts_.jobs->Find(attempt.job); }
  std::set<std::string> WorkersOf(const Attempt& attempt) const;

  void Schedule(Turn& turn);
  absl::StatusOr<std::map<std::string, ResolvedInput>> ResolveInputs(const v1::Job& job) const;
  absl::Status CheckInputs(const v1::Job& job,
                           const std::map<std::string, ResolvedInput>& inputs) const;
  void Place(Turn& turn, v1::JobRecord& record, const std::vector<SlotGrant>& grants);
  void SendStart(Turn& turn, const Attempt& attempt, const std::string& worker_id);
  void SendForget(Turn& turn, const v1::AttemptRef& ref, const std::string& worker_id);
  void SendCommand(Turn& turn, const Attempt& attempt, int32_t rank, const std::string& worker_id,
                   const std::string& json);
  void SendDecision(Turn& turn, const Attempt& attempt, int32_t rank,
                    const v1::ArtefactDecision& decision);
  void SendRendezvous(Turn& turn, const Attempt& attempt, const std::string& worker_id,
                      const std::string& key, const std::string& value);
  void Stop(Turn& turn, Attempt& attempt, const std::string& reason, int32_t grace_ms);

  // Applies what is pending of a rank, until it has to wait for a check.
  void Drain(Turn& turn, Attempt& attempt, int32_t rank);
  void Apply(Turn& turn, Attempt& attempt, int32_t rank, const v1::RankReport& report);
  void ApplyStep(Turn& turn, Attempt& attempt, const v1::StepReport& step);
  void ApplyExit(Turn& turn, Attempt& attempt, int32_t rank);
  void CheckArtefact(Turn& turn, Attempt& attempt, int32_t rank, const v1::RankReport& report);
  void Decide(Turn& turn, AttemptId id, int32_t rank, const v1::RankReport& report,
              const absl::Status& checked);
  absl::Status RefuseArtefact(const Attempt& attempt, const v1::ArtefactWritten& written) const;
  void CommitArtefact(Turn& turn, Attempt& attempt, const v1::ArtefactWritten& written);
  void RetainCheckpoints(Turn& turn, v1::JobRecord& record, const std::string& name);
  std::set<std::string> ProtectedArtefacts();
  void SaveRank(Turn& turn, const Attempt& attempt, int32_t rank);
  void Acknowledge(Turn& turn, const Attempt& attempt, int32_t rank);

  // Looks whether the attempt has ended and whether all of it is gone. May remove the attempt.
  void Settle(Turn& turn, AttemptId id);
  Failure FailureOf(const Attempt& attempt, int32_t rank) const;
  Failure WorstFailure(const Attempt& attempt) const;
  void EndBadly(Turn& turn, Attempt& attempt, const Failure& failure);
  void MarkEnded(Turn& turn, Attempt& attempt);
  void Retire(Turn& turn, Attempt& attempt);
  void LoseRanksOn(Turn& turn, const std::string& worker_id);
  void LoseAttemptOn(Turn& turn, Attempt& attempt, const std::string& worker_id,
                     const std::string& why);

  const Options options_;
  const Parts parts_;
  std::map<AttemptId, Attempt> attempts_;
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  bool schedule_needed_ = true;
  int64_t retry_unix_millis_ = kNever;  // when the next job's back-off ends
  int64_t next_deadline_millis_ = 0;
  struct LogFollower {
    uint64_t job = 0;
    std::function<void()> tell;
  };
  std::map<int64_t, LogFollower> log_followers_;
  int64_t next_follower_ = 1;
};

}  // namespace moe::coordinator
