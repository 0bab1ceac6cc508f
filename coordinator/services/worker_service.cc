#include "coordinator/services/worker_service.h"

#include <grpcpp/alarm.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/status.h"
#include "coordinator/services/caller.h"
#include "coordinator/services/unary.h"
#include "coordinator/session_inbox.h"

namespace moe::coordinator {
namespace {

// Messages of one worker that may wait for the loop; more are left in gRPC's flow control.
constexpr int kMaxUnhandled = 64;
// Messages that a worker may leave unread; a stream that has more is ended, and the worker may open
// another one.
constexpr size_t kMaxUnread = 10'000;
// How long a stream may be open before its worker says who it is.
constexpr std::chrono::seconds kRegisterWithin{10};

class SessionStream final : public grpc::ServerBidiReactor<v1::SessionRequest, v1::SessionResponse>,
                            public WorkerSession,
                            public std::enable_shared_from_this<SessionStream> {
 public:
  SessionStream(const Core& core, Caller caller)
      : core_(core),
        caller_(std::move(caller)),
        inbox_(core.workers, core.supervisor,
               core.access == nullptr ? std::nullopt : std::optional(caller_.worker_id)) {}

  void Start() {
    self_ = shared_from_this();
    // The alarm, a part of this, keeps what it called: a strong reference would never go.
    register_by_.Set(std::chrono::system_clock::now() + kRegisterWithin,
                     [stream = weak_from_this()](bool is_over) {
                       const auto self = stream.lock();
                       if (is_over && self != nullptr) self->EndUnlessRegistered();
                     });
    StartRead(&incoming_);
  }

  // WorkerSession

  void Send(const v1::SessionResponse& message) override {
    absl::MutexLock lock(&mutex_);
    if (finished_) return;
    if (outgoing_.size() >= kMaxUnread) {
      const absl::Status status =
          ResourceExhausted("the worker has left {} messages unread", outgoing_.size());
      core_.audit->Refuse(caller_, "Session", "", status);
      return FinishLocked(status);
    }
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
    if (const absl::Status size = CheckRequestSize(incoming_.ByteSizeLong()); !size.ok()) {
      core_.audit->Refuse(caller_, "Session", "", size);
      return End(size);
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
    register_by_.Cancel();
    core_.queue->Change([self = std::move(self_)](Turn&) { self->inbox_.Closed(self.get()); });
  }

 private:
  // On the loop's thread.
  void Handle(Turn& turn, const v1::SessionRequest& message) {
    const absl::Status status = inbox_.Handle(turn, message, shared_from_this());
    if (message.has_register_()) {
      register_by_.Cancel();
      core_.audit->Record(turn, caller_, "Session", message.register_().worker_id(), status);
    }
    if (status.ok()) return;
    spdlog::warn("session of worker='{}' ends: {}", inbox_.worker_id(), ToString(status));
    turn.After([self = shared_from_this(), status] { self->End(status); });
  }

  // On gRPC's thread. Under the lock nobody can finish the stream, without which it is not done,
  // and until it is the loop is there.
  void EndUnlessRegistered() {
    absl::MutexLock lock(&mutex_);
    if (finished_) return;
    core_.queue->Change([self = shared_from_this()](Turn& turn) {
      if (!self->inbox_.worker_id().empty()) return;
      const absl::Status status = DeadlineExceeded(
          "the session did not begin with register within {} s", kRegisterWithin.count());
      self->core_.audit->Refuse(self->caller_, "Session", "", status);
      turn.After([self, status] { self->End(status); });
    });
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
    // What is followed by more goes out with it.
    grpc::WriteOptions options;
    if (outgoing_.size() > 1) options.set_buffer_hint();
    StartWrite(&outgoing_.front(), options);
  }

  void FinishLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_) return;
    finished_ = true;
    core_.metrics->OnRpc("Session", CodeName(status));
    Finish(ToGrpc(status));
  }

  const Core& core_;
  const Caller caller_;
  std::shared_ptr<SessionStream> self_;
  v1::SessionRequest incoming_;  // between StartRead and OnReadDone gRPC's

  SessionInbox inbox_;  // loop thread only
  grpc::Alarm register_by_;

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
  auto stream = std::make_shared<SessionStream>(core_, CallerOf(core_, *context));
  stream->Start();
  return stream.get();
}

}  // namespace moe::coordinator
