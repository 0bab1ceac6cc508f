// The newest changes of all jobs, kept once for everybody who follows all of them. Not thread-safe.
#pragma once

#include <grpcpp/support/slice.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <utility>

#include "coordinator/services/watch_change.h"

namespace moe::coordinator {

// Of a message with more than one change.
inline constexpr size_t kMaxBatchBytes = size_t{64} << 10;

// Places are numbers of changes, counted from the first that was ever appended.
class ChangeLog {
 public:
  uint64_t begin() const { return begin_; }
  uint64_t end() const { return begin_ + changes_.size(); }

  void Append(std::shared_ptr<const WatchChange> change) { changes_.push_back(std::move(change)); }
  // Forgets what is before `place`.
  void TrimTo(uint64_t place);

  // `place` is from begin() on and before end().
  const std::shared_ptr<const WatchChange>& At(uint64_t place) const {
    return changes_[place - begin_];
  }
  // One WatchJobsResponse of the change at *place and those after it, as many as may be in one;
  // moves *place behind them. Those who come to the same place get the same bytes.
  grpc::Slice TakeMessage(uint64_t* place);

 private:
  struct Message {
    uint64_t end = 0;
    grpc::Slice bytes;
  };

  std::deque<std::shared_ptr<const WatchChange>> changes_;
  uint64_t begin_ = 0;
  std::map<uint64_t, Message> messages_;  // by the place of their first change; the last few
};

}  // namespace moe::coordinator
