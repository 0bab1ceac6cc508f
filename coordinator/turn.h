// How a change happens: decide, make durable, tell.
//
// All state of the coordinator belongs to one thread. A change edits memory, adds its records to
// the turn's batch and leaves everything that somebody else would notice (answers, commands to
// workers, messages to watchers, metrics of events, removals of files) as functions to run after
// the batch is durable. Changes that arrive while a batch is being synced share the next batch, so
// the cost of a sync is spread over them. Reads run between commits: they see all that was
// acknowledged when they were handed in, and nothing that is not durable.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "storage/rocks/batch.h"

namespace moe::coordinator {

// Of a time in milliseconds.
inline constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

struct Turn {
  storage::Batch batch;
  int64_t unix_millis = 0;       // when the turn began
  int64_t monotonic_millis = 0;  // likewise
  std::vector<std::function<void()>> after_commit;

  void After(std::function<void()> tell) { after_commit.push_back(std::move(tell)); }
};

// Where changes and reads are handed in, from any thread.
class TurnQueue {
 public:
  virtual ~TurnQueue() = default;
  virtual void Change(std::function<void(Turn&)> change) = 0;
  virtual void Read(std::function<void()> read) = 0;
};

}  // namespace moe::coordinator
