// How a group of changes is carried out (coordinator/turn.h): one batch, one commit, and only then
// the world is told. Without a thread or a clock of its own, so that commit_loop.h runs it on its
// thread and a simulation where and when it likes.
#pragma once

#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "common/clock.h"
#include "coordinator/turn.h"
#include "storage/rocks/batch.h"

namespace moe::coordinator {

class TurnRunner {
 public:
  struct Task {
    std::function<void(Turn&)> change;  // one of the two
    std::function<void()> read;
  };
  struct Hooks {
    // Runs at the end of each group, in the same commit: scheduling, expiry.
    std::function<void(Turn&)> before_commit;
    // Makes a batch durable, all of it or nothing.
    std::function<absl::Status(const storage::Batch&)> commit;
  };

  TurnRunner(const Clock* clock, Hooks hooks) : clock_(clock), hooks_(std::move(hooks)) {}

  // Runs the reads, then the changes, each in order, so that all changes share one commit. An error
  // is that of the commit: memory is then ahead of the disk, nothing may be answered any more, and
  // nothing else may be run.
  absl::Status Run(const std::vector<Task>& tasks);

 private:
  Turn NewTurn() const;

  const Clock* const clock_;
  const Hooks hooks_;
};

}  // namespace moe::coordinator
