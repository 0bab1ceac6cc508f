// A change of a job as it goes to those who watch: serialised once, however many they are.
#pragma once

#include <grpcpp/support/slice.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "moe/v1/job_service.pb.h"

namespace moe::coordinator {

struct WatchChange {
  uint64_t job = 0;
  int64_t revision = 0;
  bool ended = false;  // the job has
  std::string bytes;   // of the WatchJobsResponse that holds this change alone
};

WatchChange WatchChangeOf(const v1::WatchJobsResponse& message);

// What one more change adds to a message.
size_t SizeInMore(const WatchChange& change);

// One WatchJobsResponse: the first change, with the others as its `more`. At least one.
grpc::Slice JoinChanges(const std::vector<std::shared_ptr<const WatchChange>>& changes);

}  // namespace moe::coordinator
