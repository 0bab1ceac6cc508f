#include "coordinator/job_wishes.h"

#include <vector>

#include "common/status.h"
#include "coordinator/job_dependencies.h"
#include "coordinator/job_state.h"

namespace moe::coordinator {
namespace {

bool Runs(const v1::Job& job) {
  return job.state() == v1::JOB_STATE_STARTING || job.state() == v1::JOB_STATE_RUNNING;
}

// "held: make room", or "held" without a reason.
std::string WithReason(const std::string& what, const std::string& reason) {
  return reason.empty() ? what : what + ": " + reason;
}

}  // namespace

absl::Status JobWishes::Cancel(Turn& turn, v1::JobRecord& record, const std::string& reason) {
  const v1::Job& job = record.job();
  const std::string text = WithReason("cancelled", reason);
  doorbell_->Ring();
  switch (job.state()) {
    case v1::JOB_STATE_PENDING:
    case v1::JOB_STATE_QUEUED:
      jobs_->Move(turn, record, JobChange::kCancelled, v1::CAUSE_CANCELLED, text);
      ends_->RemoveWork(turn, job);
      return IsArray(job) ? CancelElements(turn, job.job_id(), reason) : absl::OkStatus();
    case v1::JOB_STATE_STARTING:
    case v1::JOB_STATE_RUNNING:
      ends_->StopForGood(turn, record, text);
      return absl::OkStatus();
    case v1::JOB_STATE_STOPPING:
      if (job.cause() == v1::CAUSE_CANCELLED) return absl::OkStatus();
      ends_->StopForGoodAfterAll(turn, record, text);
      return absl::OkStatus();
    case v1::JOB_STATE_CANCELLED:
      return absl::OkStatus();
    default:
      return FailedPrecondition("job {} ('{}') has ended as {} and cannot be cancelled",
                                job.job_id(), job.spec().name(), StateName(job.state()));
  }
}

absl::Status JobWishes::CancelElements(Turn& turn, const std::string& array,
                                       const std::string& reason) {
  std::vector<v1::JobRecord*> elements;
  jobs_->ForEachLive([&](v1::JobRecord& record) {
    if (record.job().array_job_id() == array) elements.push_back(&record);
  });
  for (v1::JobRecord* element : elements) MOE_RETURN_IF_ERROR(Cancel(turn, *element, reason));
  return absl::OkStatus();
}

absl::Status JobWishes::Hold(Turn& turn, v1::JobRecord& record, const std::string& reason) {
  const v1::Job& job = record.job();
  if (IsEnded(job.state()) || job.cause() == v1::CAUSE_CANCELLED) {
    return FailedPrecondition("job {} ('{}') is {} and cannot be held", job.job_id(),
                              job.spec().name(), StateName(job.state()));
  }
  if (job.held()) return absl::OkStatus();
  const std::string text = WithReason("held", reason);
  jobs_->SetHeld(turn, record, true, text);
  doorbell_->Ring();
  if (Runs(job)) ends_->StopForLater(turn, record, text);
  return absl::OkStatus();
}

absl::Status JobWishes::Release(Turn& turn, v1::JobRecord& record) {
  const v1::Job& job = record.job();
  if (IsEnded(job.state())) {
    return FailedPrecondition("job {} ('{}') has ended as {}; there is nothing to release",
                              job.job_id(), job.spec().name(), StateName(job.state()));
  }
  if (!job.held()) return absl::OkStatus();
  jobs_->SetHeld(turn, record, false, "released");
  doorbell_->Ring();
  return absl::OkStatus();
}

absl::Status JobWishes::Preempt(Turn& turn, v1::JobRecord& record, const std::string& reason) {
  const v1::Job& job = record.job();
  const bool stops_already =
      job.state() == v1::JOB_STATE_STOPPING && job.cause() == v1::CAUSE_PREEMPTED;
  if (stops_already) return absl::OkStatus();
  if (!Runs(job)) {
    return FailedPrecondition(
        "job {} ('{}') is {} and holds no slots that could be taken; only STARTING and RUNNING "
        "jobs are pre-empted",
        job.job_id(), job.spec().name(), StateName(job.state()));
  }
  ends_->StopForLater(turn, record, WithReason("pre-empted", reason));
  return absl::OkStatus();
}

}  // namespace moe::coordinator
