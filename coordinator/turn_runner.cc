#include "coordinator/turn_runner.h"

#include <utility>

#include "common/status.h"

namespace moe::coordinator {

Turn TurnRunner::NewTurn() const {
  Turn turn;
  turn.unix_millis = clock_->UnixMillis();
  turn.monotonic_millis = clock_->MonotonicMillis();
  return turn;
}

absl::Status TurnRunner::Run(const std::vector<Task>& tasks) {
  // Before the changes: what is in memory is what is on the disk, and no read waits for a sync or
  // splits the group.
  for (const Task& task : tasks) {
    if (task.read) task.read();
  }
  Turn turn = NewTurn();
  for (const Task& task : tasks) {
    if (task.change) task.change(turn);
  }
  hooks_.before_commit(turn);
  if (!turn.batch.empty()) MOE_RETURN_IF_ERROR(hooks_.commit(turn.batch));
  for (const std::function<void()>& tell : turn.after_commit) tell();
  return absl::OkStatus();
}

}  // namespace moe::coordinator
