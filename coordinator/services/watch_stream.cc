#include "coordinator/services/watch_stream.h"

#include <deque>
#include <memory>
#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/status.h"
#include "coordinator/services/unary.h"

namespace moe::coordinator {
namespace {

// A client that is this many messages behind, beside those that it asked for when it came, is cut
// off with the revision to go on from.
constexpr size_t kMaxBehind = 10000;

// Messages come from the loop's thread, writes are driven by gRPC's threads. The stream stays alive
// through `self_` until OnDone; the loop holds weak pointers.
class WatchStream final : public grpc::ServerWriteReactor<v1::WatchJobsResponse>,
                          public std::enable_shared_from_this<WatchStream> {
 public:
  WatchStream(const Core& core, Caller caller, const v1::WatchJobsRequest& request)
      : core_(core), caller_(std::move(caller)), request_(request) {}

  void Start() {
    self_ = shared_from_this();
    core_.queue->Read([weak = weak_from_this()] {
      if (const auto stream = weak.lock()) stream->Subscribe();
    });
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) {
      FinishLocked(Cancelled("the client has gone"));
      return;
    }
    queue_.pop_front();
    Advance();
  }

  void OnCancel() override {
    absl::MutexLock lock(&mutex_);
    queue_.clear();
    // An outstanding write reports itself with ok = false.
    if (!writing_) FinishLocked(Cancelled("cancelled"));
  }

  void OnDone() override {
    core_.queue->Read([jobs = core_.jobs, self = std::move(self_)] {
      if (self->watcher_ != 0) jobs->RemoveWatcher(self->watcher_);
    });
  }

 private:
  // On the loop's thread.
  void Subscribe() {
    JobTable::WatchFilter filter;
    for (const std::string& job_id : request_.job_ids()) {
      const v1::JobRecord* record = core_.jobs->Find(job_id);
      if (record == nullptr) {
        absl::MutexLock lock(&mutex_);
        FinishLocked(NotFound("no job has the id '{}'", job_id));
        return;
      }
      const uint64_t number = *ParseJobId(job_id);
      filter.jobs.insert(number);
      if (!IsEnded(record->job().state())) running_.insert(number);
    }
    if (request_.until_ended() && filter.jobs.empty()) {
      absl::MutexLock lock(&mutex_);
      FinishLocked(
          InvalidArgument("until_ended is set without job_ids; name the jobs to wait for"));
      return;
    }
    const auto changes = core_.jobs->ChangesSince(filter, request_.from_revision());
    if (!changes.ok()) {
      absl::MutexLock lock(&mutex_);
      FinishLocked(changes.status());
      return;
    }
    watcher_ = core_.jobs->AddWatcher(filter, [weak = weak_from_this()](const auto& message) {
      if (const auto stream = weak.lock()) stream->Tell(message);
    });
    absl::MutexLock lock(&mutex_);
    queue_.insert(queue_.end(), changes->begin(), changes->end());
    max_queued_ = queue_.size() + kMaxBehind;
    all_ended_ = request_.until_ended() && running_.empty();
    Advance();
  }

  // On the loop's thread.
  void Tell(const JobTable::WatchMessage& message) {
    if (IsEnded(message->job().state())) running_.erase(*ParseJobId(message->job().job_id()));
    absl::MutexLock lock(&mutex_);
    if (finished_) return;
    if (queue_.size() >= max_queued_) {
      // One that is being written comes before the status.
      const int64_t sent = queue_.front()->job().revision() - (writing_ ? 0 : 1);
      const absl::Status status =
          ResourceExhausted("the client is {} messages behind; watch again with from_revision={}",
                            queue_.size(), sent);
      core_.audit->Refuse(caller_, "WatchJobs", "", status);
      return FinishLocked(status);
    }
    queue_.push_back(message);
    all_ended_ = request_.until_ended() && running_.empty();
    Advance();
  }

  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_ || writing_) return;
    if (!queue_.empty()) {
      writing_ = true;
      StartWrite(queue_.front().get());  // stays in the queue until it is written
    } else if (all_ended_) {
      FinishLocked(absl::OkStatus());
    }
  }

  void FinishLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_) return;
    finished_ = true;
    core_.metrics->OnRpc("WatchJobs", CodeName(status));
    Finish(ToGrpc(status));
  }

  const Core& core_;
  const Caller caller_;
  const v1::WatchJobsRequest request_;
  std::shared_ptr<WatchStream> self_;

  // Loop thread only.
  std::set<uint64_t> running_;
  int64_t watcher_ = 0;

  absl::Mutex mutex_;
  std::deque<JobTable::WatchMessage> queue_ ABSL_GUARDED_BY(mutex_);
  size_t max_queued_ ABSL_GUARDED_BY(mutex_) = 0;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool all_ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::WatchJobsResponse>* StartWatchStream(
    const Core& core, Caller caller, const v1::WatchJobsRequest& request) {
  auto stream = std::make_shared<WatchStream>(core, std::move(caller), request);
  stream->Start();
  return stream.get();
}

}  // namespace moe::coordinator
