#include "coordinator/commit_loop.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/time/time.h"
#include "common/status.h"

namespace moe::coordinator {

CommitLoop::CommitLoop(storage::Store* store, const Clock* clock) : store_(store), clock_(clock) {}

CommitLoop::~CommitLoop() { Stop(); }

void CommitLoop::Start(Hooks hooks) {
  hooks_ = std::move(hooks);
  thread_ = std::thread([this] { Run(); });
}

void CommitLoop::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    wake_.Signal();
  }
  if (thread_.joinable()) thread_.join();
}

void CommitLoop::Change(std::function<void(Turn&)> change) { Hand({std::move(change), nullptr}); }
void CommitLoop::Read(std::function<void()> read) { Hand({nullptr, std::move(read)}); }

void CommitLoop::Hand(Task task) {
  absl::MutexLock lock(&mutex_);
  tasks_.push_back(std::move(task));
  wake_.Signal();
}

bool CommitLoop::Wait(std::vector<Task>* tasks) {
  const int64_t wait_millis =
      std::max<int64_t>(0, hooks_.next_deadline_millis() - clock_->MonotonicMillis());
  absl::MutexLock lock(&mutex_);
  if (tasks_.empty() && !stopping_) {
    // A day at most: a far deadline must not overflow.
    wake_.WaitWithTimeout(&mutex_, absl::Milliseconds(std::min<int64_t>(wait_millis, 86'400'000)));
  }
  tasks->clear();
  tasks->swap(tasks_);
  return !(tasks->empty() && stopping_);
}

void CommitLoop::Run() {
  TurnRunner runner(clock_,
                    {.before_commit = hooks_.before_commit,
                     .commit = [this](const storage::Batch& batch) { return Commit(batch); }});
  std::vector<Task> tasks;
  while (Wait(&tasks)) {
    const absl::Status status = runner.Run(tasks);
    if (!status.ok()) return hooks_.on_fatal(status);
  }
}

absl::Status CommitLoop::Commit(const storage::Batch& batch) {
  const auto start = std::chrono::steady_clock::now();
  MOE_RETURN_IF_ERROR(store_->Commit(batch));
  hooks_.on_commit(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  return absl::OkStatus();
}

}  // namespace moe::coordinator
