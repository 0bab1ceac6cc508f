// Collective operations beside the computation: a thread does them one after the other, in the
// order in which they were asked for.
//
//   BackgroundCollectives background(communicator.Split("background", timeout_ms));
//   const int64_t ticket = background.ReduceScatterSum(gradients, bucket);
//   ... computes something else ...
//   background.Wait(ticket);
//
// Every rank asks for the same operations in the same order. What a tensor holds within the range
// of an operation belongs to the thread until Wait has returned. Not thread-safe itself.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "worker/parallel/communicator.h"

namespace moe::parallel {

class BackgroundCollectives {
 public:
  explicit BackgroundCollectives(std::unique_ptr<Communicator> communicator);
  // What has not begun is left out; waits for what has.
  ~BackgroundCollectives();

  // Begin an operation of Communicator; the ticket is for Wait. `step` is named in errors.
  int64_t ReduceScatterSum(at::Tensor values, Range within, int64_t step);
  int64_t AllGather(at::Tensor values, Range within, int64_t step);

  // Returns when the operation of `ticket` and all before it are done; 0 is done. Throws the
  // CollectiveError of the first operation that failed, after which nothing more is done.
  void Wait(int64_t ticket);

  // Since the start: what the thread spent in operations, and what Wait waited, in seconds.
  double busy_seconds() const;
  double waited_seconds() const { return waited_seconds_; }
  int64_t sent_bytes() const { return communicator_->sent_bytes(); }

 private:
  using Operation = std::function<void(Communicator&)>;
  int64_t Begin(int64_t step, Operation operation);
  void Run();

  const std::unique_ptr<Communicator> communicator_;  // the thread's
  double waited_seconds_ = 0;

  mutable absl::Mutex mutex_;
  std::deque<Operation> queue_ ABSL_GUARDED_BY(mutex_);
  int64_t begun_ ABSL_GUARDED_BY(mutex_) = 0;  // tickets given
  int64_t done_ ABSL_GUARDED_BY(mutex_) = 0;
  double busy_seconds_ ABSL_GUARDED_BY(mutex_) = 0;
  std::exception_ptr error_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace moe::parallel
