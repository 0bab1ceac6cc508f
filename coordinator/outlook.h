// What the scheduler thinks, for people: why a job waits, what would become of new ones, how the
// queues share the slots. Changes nothing. Belongs to the loop's thread (coordinator/turn.h).
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "coordinator/job_spec.h"
#include "coordinator/schedule_view.h"
#include "coordinator/scheduler/schedule.h"
#include "coordinator/supervisor_options.h"
#include "moe/v1/cluster_service.pb.h"
#include "moe/v1/job_service.pb.h"

namespace moe::coordinator {

class Outlook {
 public:
  struct Parts {
    ScheduleView* view = nullptr;
    const AttemptTable* attempts = nullptr;
    JobTable* jobs = nullptr;
    const QueueTree* queues = nullptr;
    const SlotLedger* ledger = nullptr;
    const std::set<uint64_t>* owed = nullptr;
  };
  Outlook(const SupervisorOptions& options, Parts parts) : options_(options), parts_(parts) {}

  // JobService.ExplainJob.
  v1::ExplainJobResponse Explain(const v1::JobRecord& record, const ScheduleView::Now& now) const;
  // JobService.PlanPipeline: as if `user` submitted the jobs now.
  v1::PlanPipelineResponse Plan(const std::vector<CompleteJob>& jobs, const std::string& user,
                                const ScheduleView::Now& now) const;
  // ClusterService.ListQueues.
  std::vector<v1::Queue> Queues(int64_t monotonic_millis) const;

 private:
  v1::PlannedJob Planned(const std::string& job_id, const v1::JobSpec& spec,
                         const Schedule& schedule, int64_t unix_millis) const;

  const SupervisorOptions& options_;
  const Parts parts_;
};

// Why a job waits, for programs.
v1::Cause CauseOf(const WaitingJob& waiting);

}  // namespace moe::coordinator
