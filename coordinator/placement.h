// Gives queued jobs their slots: shows the scheduler (scheduler/schedule.h) the queue, the workers
// and what runs, and carries out its plan. Belongs to the loop's thread (coordinator/turn.h).
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "coordinator/attempt_ends.h"
#include "coordinator/attempt_table.h"
#include "coordinator/catalog.h"
#include "coordinator/doorbell.h"
#include "coordinator/job_table.h"
#include "coordinator/ledger/slot_ledger.h"
#include "coordinator/queues/queue_tree.h"
#include "coordinator/run_spec.h"
#include "coordinator/sampler/domain_sampler.h"
#include "coordinator/schedule_view.h"
#include "coordinator/scheduler/schedule.h"
#include "coordinator/supervisor_observer.h"
#include "coordinator/supervisor_options.h"
#include "coordinator/turn.h"
#include "coordinator/worker_messages.h"
#include "coordinator/worker_registry.h"

namespace moe::coordinator {

class Placement {
 public:
  struct Parts {
    AttemptTable* attempts = nullptr;
    AttemptEnds* ends = nullptr;
    JobTable* jobs = nullptr;
    Catalog* catalog = nullptr;
    DomainSampler* sampler = nullptr;
    WorkerRegistry* workers = nullptr;
    WorkerMessages* messages = nullptr;
    SupervisorObserver* observer = nullptr;
    Doorbell* doorbell = nullptr;
    ScheduleView* view = nullptr;
    SlotLedger* ledger = nullptr;
  };
  Placement(const SupervisorOptions& options, Parts parts) : options_(options), parts_(parts) {}

  // Passes of the scheduler, until nothing changes any more, where the bell was rung or a time has
  // come that an earlier pass waited for. Returns when there is such a time next, monotonic, or
  // kNever.
  int64_t Run(Turn& turn);

  // Jobs for which others were stopped and which have not started since: what was freed is theirs.
  // Not stored: after a restart they come in their turn.
  const std::set<uint64_t>& owed() const { return owed_; }

 private:
  // A pass looks at every queued job, in far less than a microsecond each. The pause after it grows
  // with the queue, so that a long queue is not gone through for every job that comes or goes: up
  // to 250 jobs there is none, with 100,000 it is 0.4 s.
  static constexpr int64_t kPacedJobsPerMilli = 250;

  void Pass(Turn& turn);
  // Makes the attempt and has it started, or fails the job where its inputs are not usable.
  void Place(Turn& turn, v1::JobRecord& record, const std::vector<SlotGrant>& grants);
  // For a job with start=continue that has nothing of its own to resume from: the checkpoint of the
  // other run.
  absl::Status Continue(Turn& turn, v1::JobRecord& record,
                        const std::map<std::string, ResolvedInput>& inputs);
  RunSpecFacts FactsOf(const v1::JobRecord& record, const Attempt& attempt,
                       std::map<std::string, ResolvedInput> inputs) const;
  void SayWhyItWaits(Turn& turn, const WaitingJob& waiting);
  void Preempt(Turn& turn, const PreemptedJob& preempted);

  const SupervisorOptions& options_;
  const Parts parts_;
  std::set<uint64_t> owed_;
  int64_t retry_unix_millis_ = kNever;  // when the next job's back-off ends
  int64_t preemption_millis_ = kNever;  // when a minimum run time ends; monotonic
  int64_t next_pass_millis_ = 0;        // no pass before; monotonic
};

}  // namespace moe::coordinator
