#include "coordinator/session_inbox.h"

#include "common/status.h"

namespace moe::coordinator {

absl::Status SessionInbox::Handle(Turn& turn, const v1::SessionRequest& message,
                                  const std::shared_ptr<WorkerSession>& session) {
  if (failed_) return absl::OkStatus();
  if (!worker_id_.empty() && !workers_->IsCurrent(worker_id_, session.get())) {
    return absl::OkStatus();
  }
  absl::Status status =
      worker_id_.empty() == message.has_register_()
          ? Dispatch(turn, message, session)
          : InvalidArgument("the first message of a session, and only it, is register");
  failed_ = !status.ok();
  return status;
}

absl::Status SessionInbox::Dispatch(Turn& turn, const v1::SessionRequest& message,
                                    const std::shared_ptr<WorkerSession>& session) {
  switch (message.message_case()) {
    case v1::SessionRequest::kRegister:
      MOE_RETURN_IF_ERROR(CheckCertificate(message.register_().worker_id()));
      MOE_RETURN_IF_ERROR(supervisor_->OnRegister(turn, message.register_(), session));
      worker_id_ = message.register_().worker_id();
      return absl::OkStatus();
    case v1::SessionRequest::kHeartbeat:
      supervisor_->OnHeartbeat(turn, worker_id_, message.heartbeat());
      return absl::OkStatus();
    case v1::SessionRequest::kReports:
      return supervisor_->OnReports(turn, worker_id_, message.reports());
    case v1::SessionRequest::kLog:
      return supervisor_->OnLog(turn, worker_id_, message.log());
    case v1::SessionRequest::kRankExited:
      supervisor_->OnRankExited(turn, worker_id_, message.rank_exited());
      return absl::OkStatus();
    case v1::SessionRequest::kSpeed:
      workers_->SetSpeed(worker_id_, message.speed());
      return absl::OkStatus();
    case v1::SessionRequest::kPulses:
      supervisor_->OnPulses(turn, worker_id_, message.pulses());
      return absl::OkStatus();
    case v1::SessionRequest::MESSAGE_NOT_SET:
      break;
  }
  return InvalidArgument("a session message of a kind that this coordinator does not know");
}

absl::Status SessionInbox::CheckCertificate(const std::string& worker_id) const {
  if (!certificate_id_.has_value() || worker_id == *certificate_id_) return absl::OkStatus();
  return PermissionDenied("worker_id='{}' came with the certificate of worker '{}'; use its own",
                          worker_id, *certificate_id_);
}

void SessionInbox::Closed(const WorkerSession* session) {
  if (!worker_id_.empty()) workers_->SessionClosed(worker_id_, session);
}

}  // namespace moe::coordinator
