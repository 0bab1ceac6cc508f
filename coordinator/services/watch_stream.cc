#include "coordinator/services/watch_stream.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/status.h"
#include "coordinator/services/unary.h"
#include "moe/v1/job_service.grpc.pb.h"

namespace moe::coordinator {
namespace {

// Changes that a stream takes at a time to write them one by one.
constexpr size_t kMaxSingles = 100;

// Takes changes from the feed; writes are driven by the feed's thread, and gRPC's threads say when
// they are done. The stream stays alive through `self_` until OnDone.
//
// What is written are bytes, which streams share: with a thousand of them the time would go into
// serialising and joining the same changes a thousand times.
class WatchStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                          public ChangeFeed::Follower,
                          public std::enable_shared_from_this<WatchStream> {
 public:
  WatchStream(const Core& core, ChangeFeed* feed, Caller caller)
      : core_(core), feed_(feed), caller_(std::move(caller)) {}

  void Start(grpc::ByteBuffer request) {
    self_ = shared_from_this();
    absl::Status status = CheckRequestSize(request.Length());
    if (status.ok() &&
        !grpc::SerializationTraits<v1::WatchJobsRequest>::Deserialize(&request, &request_).ok()) {
      status = InvalidArgument("the request is not what WatchJobs takes, or broke off");
    }
    if (!status.ok()) {
      core_.audit->Refuse(caller_, "WatchJobs", "", status);
      return End(status);
    }
    core_.queue->Read([weak = weak_from_this()] {
      if (const auto stream = weak.lock()) stream->Subscribe();
    });
  }

  // ChangeFeed::Follower

  void Take(const std::shared_ptr<const WatchChange>& change) override {
    if (change->ended) running_.erase(change->job);
    absl::MutexLock lock(&mutex_);
    if (finished_) return;
    if (queue_.size() >= max_queued_) {
      return CutOffLocked(queue_.size(), queue_.front()->revision);
    }
    queue_.push_back(change);
    all_ended_ = request_.until_ended() && running_.empty();
  }

  size_t Serve(ChangeFeed::Untold* untold) override {
    absl::MutexLock lock(&mutex_);
    if (finished_) return 0;
    const size_t waiting = queue_.size() + (untold == nullptr ? 0 : untold->size());
    if (writing_) return std::max<size_t>(waiting, 1);
    if (queue_.empty() && waiting > 0 && request_.batch()) {
      Write(untold->TakeMessage());
    } else if (waiting > 0) {
      while (queue_.size() < kMaxSingles && untold != nullptr && untold->size() > 0) {
        queue_.push_back(untold->TakeOne());
      }
      WriteQueued();
    } else if (all_ended_) {
      FinishLocked(absl::OkStatus());
    }
    return waiting;
  }

  void CutOff(size_t behind, int64_t revision) override {
    absl::MutexLock lock(&mutex_);
    if (finished_) return;
    CutOffLocked(queue_.size() + behind, queue_.empty() ? revision : queue_.front()->revision);
  }

  // gRPC

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok || cancelled_) {
      FinishLocked(Cancelled("the client has gone"));
    } else if (!queue_.empty() && !finished_ && !request_.batch()) {
      WriteQueued();  // one by one: as fast as the client takes them
    } else {
      feed_->CanServe(shared_from_this());
    }
  }

  void OnCancel() override {
    absl::MutexLock lock(&mutex_);
    queue_.clear();
    cancelled_ = true;
    // An outstanding write reports itself, with ok where it was faster.
    if (!writing_) FinishLocked(Cancelled("cancelled"));
  }

  void OnDone() override {
    core_.queue->Read([feed = feed_, self = std::move(self_)] { feed->Unfollow(self); });
  }

 private:
  // On the loop's thread.
  void Subscribe() {
    std::set<uint64_t> jobs;
    for (const std::string& job_id : request_.job_ids()) {
      const v1::JobRecord* record = core_.jobs->Find(job_id);
      if (record == nullptr) return End(NotFound("no job has the id '{}'", job_id));
      const uint64_t number = *ParseJobId(job_id);
      jobs.insert(number);
      if (!IsEnded(record->job().state())) running_.insert(number);
    }
    if (request_.until_ended() && jobs.empty()) {
      return End(InvalidArgument("until_ended is set without job_ids; name the jobs to wait for"));
    }
    auto missed = core_.jobs->ChangesSince(jobs, request_.from_revision());
    if (!missed.ok()) return End(missed.status());
    {
      absl::MutexLock lock(&mutex_);
      if (finished_) return;
      max_queued_ = missed->size() + kMaxBehind;
      all_ended_ = request_.until_ended() && running_.empty();
    }
    feed_->Follow(shared_from_this(), jobs, *std::move(missed));
  }

  void WriteQueued() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { Write(JoinChanges(NextBatch())); }

  void Write(const grpc::Slice& bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    outgoing_ = grpc::ByteBuffer(&bytes, 1);
    writing_ = true;
    StartWrite(&outgoing_);
  }

  // As many of the queue's changes as one message may have.
  std::vector<std::shared_ptr<const WatchChange>> NextBatch()
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<std::shared_ptr<const WatchChange>> batch;
    size_t size_bytes = 0;
    do {
      size_bytes += SizeInMore(*queue_.front());
      batch.push_back(std::move(queue_.front()));
      queue_.pop_front();
    } while (request_.batch() && !queue_.empty() &&
             size_bytes + SizeInMore(*queue_.front()) <= kMaxBatchBytes);
    return batch;
  }

  // `revision`: of the first change that it is not told any more. What is being written comes
  // before the status.
  void CutOffLocked(size_t behind, int64_t revision) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const absl::Status status =
        ResourceExhausted("the client is {} messages behind; watch again with from_revision={}",
                          behind, revision - 1);
    core_.audit->Refuse(caller_, "WatchJobs", "", status);
    FinishLocked(status);
  }

  void End(const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    FinishLocked(status);
  }

  void FinishLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_) return;
    finished_ = true;
    queue_.clear();
    core_.metrics->OnRpc("WatchJobs", CodeName(status));
    Finish(ToGrpc(status));
  }

  const Core& core_;
  ChangeFeed* const feed_;
  const Caller caller_;
  v1::WatchJobsRequest request_;  // constant once started
  std::shared_ptr<WatchStream> self_;

  std::set<uint64_t>
      running_;  // of job_ids; of the loop's thread until it follows, then the feed's

  absl::Mutex mutex_;
  std::deque<std::shared_ptr<const WatchChange>> queue_ ABSL_GUARDED_BY(mutex_);
  grpc::ByteBuffer outgoing_ ABSL_GUARDED_BY(mutex_);  // gRPC's while `writing_`
  size_t max_queued_ ABSL_GUARDED_BY(mutex_) = 0;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool all_ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartWatchStream(const Core& core, ChangeFeed* feed,
                                                             Caller caller,
                                                             const grpc::ByteBuffer& request) {
  auto stream = std::make_shared<WatchStream>(core, feed, std::move(caller));
  stream->Start(request);
  return stream.get();
}

}  // namespace moe::coordinator
