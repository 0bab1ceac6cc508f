#include "coordinator/services/worker_service.h"

#include <spdlog/spdlog.h>

#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/status.h"
#include "coordinator/access.h"
#include "coordinator/services/unary.h"

namespace moe::coordinator {
namespace {

// Messages of one worker that may wait for the loop; more are left in gRPC's flow control.
constexpr int kMaxUnhandled = 64;

class SessionStream final : public grpc::ServerBidiReactor<v1::SessionRequest, v1::SessionResponse>,
                            public WorkerSession,
                            public std::enable_shared_from_this<SessionStream> {
 public:
  // `certificate_id` names the only worker that this peer may be; empty where nobody is asked.
  SessionStream(const Core& core, std::string certificate_id)
      : core_(core), certificate_id_(std::move(certificate_id)) {}

  void Start() {
    self_ = shared_from_this();
    StartRead(&incoming_);
  }

  // WorkerSession

  void Send(const v1::SessionResponse& message) override {
    absl::MutexLock lock(&mutex_);
    if (finished_) return;
    outgoing_.push_back(message);
    Advance();
  }

  void End(const absl::Status& status) override {
    absl::MutexLock lock(&mutex_);
    FinishLocked(status);
  }

  // gRPC

  void OnReadDone(bool ok) override {
    if (!ok) {  // the worker closed its side, or the stream broke
      End(absl::OkStatus());
      return;
    }
    {
      absl::MutexLock lock(&mutex_);
      ++unhandled_;
    }
    core_.queue->Change([self = shared_from_this(), message = std::move(incoming_)](Turn& turn) {
      self->Handle(turn, message);
      turn.After([self] { self->Handled(); });
    });
    incoming_.Clear();
    absl::MutexLock lock(&mutex_);
    if (unhandled_ < kMaxUnhandled) {
      StartRead(&incoming_);
    } else {
      reading_paused_ = true;
    }
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) return;  // OnReadDone reports the broken stream too
    outgoing_.pop_front();
    Advance();
  }

  void OnCancel() override { End(Cancelled("the stream was cancelled")); }

  void OnDone() override {
    core_.queue->Change([workers = core_.workers, self = std::move(self_)](Turn&) {
      if (!self->worker_id_.empty()) workers->SessionClosed(self->worker_id_, self.get());
    });
  }

 private:
  // On the loop's thread.
  void Handle(Turn& turn, const v1::SessionRequest& message) {
    if (!failed_ && worker_id_.empty() != message.has_register_()) {
      return Fail(turn,
                  InvalidArgument("the first message of a session, and only it, is register"));
    }
    if (failed_ || (!worker_id_.empty() && !core_.workers->IsCurrent(worker_id_, this))) return;
    absl::Status status;
    switch (message.message_case()) {
      case v1::SessionRequest::kRegister:
        status = CheckCertificate(message.register_().worker_id());
        if (status.ok()) {
          status = core_.supervisor->OnRegister(turn, message.register_(), shared_from_this());
        }
        if (status.ok()) worker_id_ = message.register_().worker_id();
        break;
      case v1::SessionRequest::kHeartbeat:
        core_.supervisor->OnHeartbeat(turn, worker_id_, message.heartbeat());
        break;
      case v1::SessionRequest::kReports:
        status = core_.supervisor->OnReports(turn, worker_id_, message.reports());
        break;
      case v1::SessionRequest::kLog:
        status = core_.supervisor->OnLog(turn, worker_id_, message.log());
        break;
      case v1::SessionRequest::kRankExited:
        core_.supervisor->OnRankExited(turn, worker_id_, message.rank_exited());
        break;
      case v1::SessionRequest::kSpeed:
        core_.workers->SetSpeed(worker_id_, message.speed());
        break;
      case v1::SessionRequest::MESSAGE_NOT_SET:
        status = InvalidArgument("a session message of a kind that this coordinator does not know");
        break;
    }
    if (!status.ok()) Fail(turn, status);
  }

  absl::Status CheckCertificate(const std::string& worker_id) const {
    if (core_.access == nullptr || worker_id == certificate_id_) return absl::OkStatus();
    return PermissionDenied("worker_id='{}' came with the certificate of worker '{}'; use its own",
                            worker_id, certificate_id_);
  }

  void Fail(Turn& turn, const absl::Status& status) {
    failed_ = true;
    spdlog::warn("session of worker='{}' ends: {}", worker_id_, ToString(status));
    turn.After([self = shared_from_this(), status] { self->End(status); });
  }

  void Handled() {
    absl::MutexLock lock(&mutex_);
    --unhandled_;
    if (reading_paused_ && !finished_) {
      reading_paused_ = false;
      StartRead(&incoming_);
    }
  }

  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_ || writing_ || outgoing_.empty()) return;
    writing_ = true;
    StartWrite(&outgoing_.front());
  }

  void FinishLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_) return;
    finished_ = true;
    core_.metrics->OnRpc("Session", CodeName(status));
    Finish(ToGrpc(status));
  }

  const Core& core_;
  const std::string certificate_id_;
  std::shared_ptr<SessionStream> self_;
  v1::SessionRequest incoming_;  // between StartRead and OnReadDone gRPC's

  // Loop thread only.
  std::string worker_id_;
  bool failed_ = false;

  absl::Mutex mutex_;
  std::deque<v1::SessionResponse> outgoing_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  int unhandled_ ABSL_GUARDED_BY(mutex_) = 0;
  bool reading_paused_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerBidiReactor<v1::SessionRequest, v1::SessionResponse>* WorkerServiceImpl::Session(
    grpc::CallbackServerContext* context) {
  auto stream = std::make_shared<SessionStream>(
      core_, core_.access == nullptr ? "" : core_.access->CallerOf(*context).worker_id);
  stream->Start();
  return stream.get();
}

}  // namespace moe::coordinator
