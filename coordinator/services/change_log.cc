#include "coordinator/services/change_log.h"

#include <utility>
#include <vector>

namespace moe::coordinator {
namespace {

// Followers that read alike are at the same few places.
constexpr size_t kMaxMessages = 8;

}  // namespace

void ChangeLog::TrimTo(uint64_t place) {
  for (; begin_ < place && !changes_.empty(); ++begin_) changes_.pop_front();
}

grpc::Slice ChangeLog::TakeMessage(uint64_t* place) {
  auto known = messages_.find(*place);
  if (known == messages_.end()) {
    std::vector<std::shared_ptr<const WatchChange>> batch;
    uint64_t end = *place;
    size_t size_bytes = 0;
    do {
      size_bytes += SizeInMore(*At(end));
      batch.push_back(At(end));
      ++end;
    } while (end < this->end() && size_bytes + SizeInMore(*At(end)) <= kMaxBatchBytes);
    if (messages_.size() == kMaxMessages) messages_.erase(messages_.begin());
    known = messages_.emplace(*place, Message{.end = end, .bytes = JoinChanges(batch)}).first;
  }
  *place = known->second.end;
  return known->second.bytes;
}

}  // namespace moe::coordinator
