// Runs attempts. Wires the parts that do so and is their one face to the services: what each fact
// means stands with its owner.
//
//   attempt_table     which attempts are not over, and who holds which slot
//   schedule_view     what the scheduler decides upon
//   queue_book        the queued jobs of it, from pass to pass
//   placement         queued jobs become attempts
//   outlook           why jobs wait, what would become of new ones
//   ledger            where the time of slots goes
//   worker_presence   workers come, are heard of, are lost
//   rank_reports      what ranks report, log and write
//   attempt_ends      what the end of ranks means for job and slots
//   run_limits        attempts that run too long, or stand still
//   array_expander    elements of arrays become jobs
//   job_wishes        cancel, hold, release, preempt
//
// Belongs to the loop's thread (coordinator/turn.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "coordinator/array_expander.h"
#include "coordinator/artefact_files.h"
#include "coordinator/attempt_ends.h"
#include "coordinator/attempt_table.h"
#include "coordinator/catalog.h"
#include "coordinator/doorbell.h"
#include "coordinator/job_table.h"
#include "coordinator/job_wishes.h"
#include "coordinator/ledger/slot_ledger.h"
#include "coordinator/log_followers.h"
#include "coordinator/outlook.h"
#include "coordinator/outputs.h"
#include "coordinator/placement.h"
#include "coordinator/rank_reports.h"
#include "coordinator/run_limits.h"
#include "coordinator/sampler/domain_sampler.h"
#include "coordinator/schedule_view.h"
#include "coordinator/supervisor_observer.h"
#include "coordinator/supervisor_options.h"
#include "coordinator/turn.h"
#include "coordinator/worker_messages.h"
#include "coordinator/worker_presence.h"
#include "coordinator/worker_registry.h"
#include "moe/v1/worker_service.pb.h"
#include "storage/rocks/store.h"

namespace moe::coordinator {

class Supervisor {
 public:
  using Options = SupervisorOptions;
  struct Parts {
    storage::Store* store = nullptr;
    JobTable* jobs = nullptr;
    Catalog* catalog = nullptr;
    DomainSampler* sampler = nullptr;
    WorkerRegistry* workers = nullptr;
    const ArtefactFiles* files = nullptr;
    FileWork* file_work = nullptr;
    TurnQueue* queue = nullptr;
    SupervisorObserver* observer = nullptr;
    const QueueTree* queue_tree = nullptr;
    ArrayExpander::LookUp look_up = nullptr;
  };

  Supervisor(Options options, Parts parts);
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Takes up the attempts that lived when the coordinator ended, and removes folders that the
  // catalogue does not know. Once, after the other parts were loaded.
  absl::Status Load(int64_t unix_millis, int64_t monotonic_millis);

  // From users: job_wishes.h, placement.h.
  absl::Status Cancel(Turn& turn, v1::JobRecord& record, const std::string& reason) {
    return wishes_.Cancel(turn, record, reason);
  }
  absl::Status Hold(Turn& turn, v1::JobRecord& record, const std::string& reason) {
    return wishes_.Hold(turn, record, reason);
  }
  absl::Status Release(Turn& turn, v1::JobRecord& record) { return wishes_.Release(turn, record); }
  absl::Status Preempt(Turn& turn, v1::JobRecord& record, const std::string& reason) {
    return wishes_.Preempt(turn, record, reason);
  }
  // There are new jobs.
  void Wake() { doorbell_.Ring(); }

  // From a worker's stream: worker_presence.h, rank_reports.h. An error ends the stream.
  absl::Status OnRegister(Turn& turn, const v1::Register& hello,
                          std::shared_ptr<WorkerSession> session) {
    return presence_.OnRegister(turn, hello, std::move(session));
  }
  void OnHeartbeat(Turn& turn, const std::string& worker_id, const v1::Heartbeat& heartbeat) {
    presence_.OnHeartbeat(turn, worker_id, heartbeat);
  }
  absl::Status OnReports(Turn& turn, const std::string& worker_id, const v1::ReportBatch& batch) {
    return reports_.OnReports(turn, worker_id, batch);
  }
  absl::Status OnLog(Turn& turn, const std::string& worker_id, const v1::LogChunk& chunk) {
    return reports_.OnLog(turn, worker_id, chunk);
  }
  void OnPulses(const Turn& turn, const std::string& worker_id, const v1::RankPulses& pulses) {
    limits_.OnPulses(turn, worker_id, pulses);
  }
  void OnRankExited(Turn& turn, const std::string& worker_id, const v1::RankExited& exited) {
    reports_.OnRankExited(turn, worker_id, exited);
  }

  // At the end of every group of changes: ends what was lost, schedules if anything changed.
  void BeforeCommit(Turn& turn);
  // So many slots are there from now on: what no attempt holds of them is booked as idle.
  void CountSlots(int64_t slots, int64_t monotonic_millis) {
    ledger_.CountSlots(slots, monotonic_millis);
  }
  // When BeforeCommit wants to run next without any change; monotonic, INT64_MAX for never.
  int64_t NextDeadlineMillis() const { return next_deadline_millis_; }

  // Whether ranks of this attempt may still write to their logs.
  bool IsAlive(uint64_t job, int32_t attempt) const {
    return attempts_.all().contains({job, attempt});
  }
  const AttemptTable& attempts() const { return attempts_; }
  const Outlook& outlook() const { return outlook_; }
  const SlotLedger& ledger() const { return ledger_; }
  LogFollowers& log_followers() { return log_followers_; }

 private:
  const Options options_;
  const Parts parts_;
  Doorbell doorbell_;
  LogFollowers log_followers_;
  AttemptTable attempts_;
  SlotLedger ledger_;
  WorkerMessages messages_;
  Outputs outputs_;
  AttemptEnds ends_;
  JobWishes wishes_;
  ScheduleView view_;
  Placement placement_;
  Outlook outlook_;
  RunLimits limits_;
  ArrayExpander arrays_;
  WorkerPresence presence_;
  RankReports reports_;
  int64_t next_deadline_millis_ = 0;
};

}  // namespace moe::coordinator
