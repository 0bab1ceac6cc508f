// Every job, its history, and who watches it. Belongs to the loop's thread (coordinator/turn.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/job_dependencies.h"
#include "coordinator/job_spec.h"
#include "coordinator/job_state.h"
#include "coordinator/turn.h"
#include "moe/v1/job_service.pb.h"
#include "moe/v1/record.pb.h"
#include "storage/rocks/store.h"

namespace moe::coordinator {

// "j17" to 17; nullopt where it is not a job id.
std::optional<uint64_t> ParseJobId(const std::string& job_id);
std::string FormatJobId(uint64_t number);
// "j17.2".
std::string FormatAttempt(uint64_t job, int32_t attempt);

class JobTable {
 public:
  // Told of every change of a job's state; `from` is UNSPECIFIED for a new job.
  using StateObserver =
      std::function<void(Turn&, const v1::Job&, v1::JobState from, v1::JobState to)>;
  using WatchMessage = std::shared_ptr<const v1::WatchJobsResponse>;

  explicit JobTable(storage::Store* store) : store_(store) {}

  // Reads everything from the store. Once, before anything else.
  absl::Status Load();
  void set_state_observer(StateObserver observer) { observer_ = std::move(observer); }

  // nullptr where there is none. Pointers stay valid: jobs are never removed.
  v1::JobRecord* Find(uint64_t number);
  v1::JobRecord* Find(const std::string& job_id);
  // A job id, or a name: the newest job of that name. NOT_FOUND says what was looked for.
  absl::StatusOr<v1::JobRecord*> FindByIdOrName(const std::string& text);
  // Newest first.
  v1::ListJobsResponse List(const v1::ListJobsRequest& request, int page_size,
                            uint64_t before_job) const;
  // Calls `visit` for every job that has not ended, oldest first.
  void ForEachLive(const std::function<void(v1::JobRecord&)>& visit);
  // Numbers of the jobs that are QUEUED.
  const std::set<uint64_t>& queued() const { return queued_; }
  // Numbers of the jobs that became QUEUED or ceased to be since the last call, some more than
  // once.
  std::vector<uint64_t> TakeQueueChanges() { return std::exchange(queue_changes_, {}); }
  // Numbers of the arrays that have not ended.
  const std::set<uint64_t>& arrays() const { return arrays_; }
  // Whether the outcomes of other jobs allow this one to run.
  bool IsReady(const v1::Job& job) const {
    return ReadinessOf(job).kind == Readiness::Kind::kReady;
  }
  int64_t revision() const { return revision_; }

  // The answer to an earlier submission with this request id, if there was one. ALREADY_EXISTS
  // where that submission was another one.
  absl::StatusOr<std::optional<v1::SubmitPipelineResponse>> FindSubmission(
      const v1::SubmitPipelineRequest& request);
  // Adds a pipeline whose specs are complete and valid. Every job is PENDING or QUEUED after it.
  v1::SubmitPipelineResponse Submit(Turn& turn, const v1::SubmitPipelineRequest& request,
                                    const std::vector<CompleteJob>& jobs, const std::string& user);
  // The answer that Submit would give, changing nothing.
  v1::SubmitPipelineResponse Preview(const std::vector<CompleteJob>& jobs,
                                     const std::string& user) const;

  // Makes jobs of the next elements of an array. An element whose spec is bad is a job that failed.
  void AddElements(Turn& turn, v1::JobRecord& array,
                   const std::vector<absl::StatusOr<v1::JobSpec>>& specs);

  // Applies a change of state; the change must be possible. Jobs that need this one follow.
  void Move(Turn& turn, v1::JobRecord& record, JobChange change, v1::Cause cause,
            const std::string& reason);
  // Holds a job back, or lets it go: QUEUED becomes PENDING, and the other way round where all of
  // its needs are met. Of a job that is placed only the wish is kept, for when it comes back.
  void SetHeld(Turn& turn, v1::JobRecord& record, bool held, const std::string& reason);
  // Stores a job whose progress or other fields were edited: a new revision without an event.
  void Touch(Turn& turn, v1::JobRecord& record);
  // As Touch, with a line in the history.
  void Note(Turn& turn, v1::JobRecord& record, v1::Cause cause, const std::string& message);
  // A revision for a change that is not a job's.
  int64_t NewRevision(Turn& turn);

  // Every change of `jobs` (empty: of all) after `from_revision`, in order; with 0, their present
  // state. To be called as a read, in the same one as AddWatcher: then nothing is missed and
  // nothing doubled. Costs what has changed since, and nothing for the jobs that have not.
  absl::StatusOr<std::vector<WatchMessage>> ChangesSince(const std::set<uint64_t>& jobs,
                                                         int64_t from_revision);
  // `tell` is called on the loop's thread for every durable change of a job that it `wants`, until
  // removed.
  int64_t AddWatcher(std::function<bool(uint64_t job)> wants,
                     std::function<void(const WatchMessage&)> tell);
  void RemoveWatcher(int64_t id);

 private:
  struct Watcher {
    std::function<bool(uint64_t)> wants;
    std::function<void(const WatchMessage&)> tell;
  };

  // Numbers of those of `jobs` (empty: of all) that have changed since.
  std::vector<uint64_t> ChangedSince(const std::set<uint64_t>& jobs, int64_t from_revision) const;
  v1::SubmitPipelineResponse AnswerOf(const v1::RequestRecord& request);
  void Index(uint64_t number, const v1::JobRecord& record);
  // Gives the job a revision of its own.
  void Renew(Turn& turn, uint64_t number, v1::Job& job);
  void Save(Turn& turn, uint64_t number, const v1::JobRecord& record, const v1::JobEvent* event);
  Readiness ReadinessOf(const v1::Job& job) const;
  void Enqueue(uint64_t number);
  void Dequeue(uint64_t number);
  // Moves a PENDING job on where the outcomes of others allow or forbid it.
  void Follow(Turn& turn, uint64_t number);
  void FollowDependents(Turn& turn, uint64_t ended_job);
  // An element has ended: counts it, and ends its array where it was the last.
  void CountElement(Turn& turn, const v1::Job& element);

  storage::Store* const store_;
  StateObserver observer_;
  int64_t revision_ = 0;
  uint64_t next_job_ = 1;
  uint64_t next_pipeline_ = 1;
  std::map<uint64_t, v1::JobRecord> jobs_;
  std::unordered_map<std::string, uint64_t> newest_by_name_;
  std::set<std::pair<int64_t, uint64_t>> by_revision_;  // of their newest change: jobs
  std::set<uint64_t> live_;                             // not ended
  std::set<uint64_t> queued_;                           // QUEUED
  std::vector<uint64_t> queue_changes_;                 // of queued_
  std::set<uint64_t> arrays_;                           // arrays that have not ended
  std::multimap<uint64_t, uint64_t> dependents_;        // job -> PENDING jobs that depend on it
  std::map<std::string, v1::RequestRecord> uncommitted_requests_;
  std::map<int64_t, Watcher> watchers_;
  int64_t next_watcher_ = 1;
};

}  // namespace moe::coordinator
