// The thread that owns the coordinator's state (coordinator/turn.h): has groups of changes carried
// out (turn_runner.h), and wakes up for deadlines.
#pragma once

#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "coordinator/turn.h"
#include "coordinator/turn_runner.h"
#include "storage/rocks/store.h"

namespace moe::coordinator {

class CommitLoop final : public TurnQueue {
 public:
  struct Hooks {
    // Runs at the end of each group of changes, in the same commit: scheduling, expiry.
    std::function<void(Turn&)> before_commit;
    // The monotonic time at which `before_commit` wants to run again without any change.
    std::function<int64_t()> next_deadline_millis;
    // How long the synced write of a group took.
    std::function<void(double seconds)> on_commit;
    // The store failed: memory is ahead of the disk and nothing may be answered any more. Should
    // not return; the loop stops if it does.
    std::function<void(const absl::Status&)> on_fatal;
  };

  // Store and clock must outlive the loop; the clock is only used on the loop's thread.
  CommitLoop(storage::Store* store, const Clock* clock);
  ~CommitLoop() override;

  void Start(Hooks hooks);
  // Finishes what has been handed in, commits, ends the thread. What is handed in later is dropped.
  void Stop();

  void Change(std::function<void(Turn&)> change) override;
  void Read(std::function<void()> read) override;

 private:
  using Task = TurnRunner::Task;

  void Hand(Task task);
  void Run();
  // Waits for tasks or the next deadline. False when there is nothing left and the loop stops.
  bool Wait(std::vector<Task>* tasks);
  absl::Status Commit(const storage::Batch& batch);

  storage::Store* const store_;
  const Clock* const clock_;
  Hooks hooks_;

  absl::Mutex mutex_;
  absl::CondVar wake_;
  std::vector<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace moe::coordinator
