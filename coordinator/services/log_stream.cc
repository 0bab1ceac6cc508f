#include "coordinator/services/log_stream.h"

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/status.h"
#include "coordinator/services/unary.h"

namespace moe::coordinator {
namespace {

constexpr int64_t kMaxPieceBytes = 256 << 10;

// One piece is on its way at a time: `Pump` reads it on the loop's thread, gRPC writes it, and
// OnWriteDone asks for the next.
class LogStream final : public grpc::ServerWriteReactor<v1::ReadLogsResponse>,
                        public std::enable_shared_from_this<LogStream> {
 public:
  LogStream(const Core& core, const v1::ReadLogsRequest& request)
      : core_(core), request_(request) {}

  void Start(const Caller& caller) {
    self_ = shared_from_this();
    if (const auto size = CheckRequestSize(request_.ByteSizeLong()); !size.ok()) {
      core_.audit->Refuse(caller, "ReadLogs", "", size);
      absl::MutexLock lock(&mutex_);
      return FinishLocked(size);
    }
    core_.queue->Read([weak = weak_from_this()] {
      if (const auto stream = weak.lock()) stream->Open();
    });
  }

  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      if (!ok || cancelled_) {
        FinishLocked(Cancelled("the client has gone"));
        return;
      }
    }
    AskForMore();
  }

  void OnCancel() override {
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
    // An outstanding write reports itself, with ok where it was faster.
    if (!writing_) FinishLocked(Cancelled("cancelled"));
  }

  void OnDone() override {
    core_.queue->Read([supervisor = core_.supervisor, self = std::move(self_)] {
      if (self->follower_ != 0) supervisor->log_followers().Remove(self->follower_);
    });
  }

 private:
  void AskForMore() {
    core_.queue->Read([weak = weak_from_this()] {
      if (const auto stream = weak.lock()) stream->Pump();
    });
  }

  // On the loop's thread, as is Pump.
  void Open() {
    const auto record = core_.jobs->FindByIdOrName(request_.job());
    absl::Status problem = record.status();
    if (problem.ok() && (request_.attempt() < 0 || request_.rank() < 0 || request_.offset() < 0)) {
      problem = InvalidArgument("attempt={} rank={} offset={}: none may be below 0",
                                request_.attempt(), request_.rank(), request_.offset());
    }
    if (problem.ok() && request_.attempt() > (*record)->job().attempt()) {
      problem = NotFound("job {} has no attempt {}; its newest is {}", (*record)->job().job_id(),
                         request_.attempt(), (*record)->job().attempt());
    }
    if (!problem.ok()) {
      absl::MutexLock lock(&mutex_);
      FinishLocked(problem);
      return;
    }
    job_ = *ParseJobId((*record)->job().job_id());
    key_ = {job_, request_.attempt() != 0 ? request_.attempt() : (*record)->job().attempt(),
            request_.rank()};
    offset_ = request_.offset();
    if (request_.follow()) {
      follower_ = core_.supervisor->log_followers().Add(job_, [weak = weak_from_this()] {
        if (const auto stream = weak.lock()) stream->AskForMore();
      });
    }
    Pump();
  }

  void Pump() {
    absl::MutexLock lock(&mutex_);
    if (writing_ || finished_) return;
    const v1::Job& job = core_.jobs->Find(job_)->job();
    while (true) {
      const auto piece = core_.store->ReadLog(key_, offset_, kMaxPieceBytes);
      if (!piece.ok()) return FinishLocked(piece.status());
      if (!piece->bytes.empty()) {
        response_.set_attempt(key_.attempt);
        response_.set_offset(offset_);
        response_.set_data(piece->bytes);
        offset_ += static_cast<int64_t>(piece->bytes.size());
        writing_ = true;
        StartWrite(&response_);
        return;
      }
      if (!request_.follow()) return FinishLocked(absl::OkStatus());
      if (core_.supervisor->IsAlive(job_, key_.attempt)) return;  // told when there is more
      if (key_.attempt < job.attempt()) {
        ++key_.attempt;
        offset_ = 0;
        continue;
      }
      if (IsEnded(job.state())) return FinishLocked(absl::OkStatus());
      return;  // told when the next attempt writes, or the job ends
    }
  }

  void FinishLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_) return;
    finished_ = true;
    core_.metrics->OnRpc("ReadLogs", CodeName(status));
    Finish(ToGrpc(status));
  }

  const Core& core_;
  const v1::ReadLogsRequest request_;
  std::shared_ptr<LogStream> self_;

  // Loop thread only.
  uint64_t job_ = 0;
  storage::RankKey key_;
  int64_t offset_ = 0;
  int64_t follower_ = 0;

  absl::Mutex mutex_;
  v1::ReadLogsResponse response_;  // untouched while `writing_`
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::ReadLogsResponse>* StartLogStream(const Core& core,
                                                               const Caller& caller,
                                                               const v1::ReadLogsRequest& request) {
  auto stream = std::make_shared<LogStream>(core, request);
  stream->Start(caller);
  return stream.get();
}

}  // namespace moe::coordinator
