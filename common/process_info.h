// Who a process is, from /proc.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "absl/status/statusor.h"

namespace moe {

// A process, safe against reuse of its id: no two processes of a boot share both.
struct ProcessIdentity {
  pid_t pid = 0;
  uint64_t start_time = 0;  // field 22 of /proc/PID/stat, clock ticks since boot
  friend bool operator==(const ProcessIdentity&, const ProcessIdentity&) = default;
};

// NOT_FOUND where there is no such process. One that ended and was not waited for still counts.
absl::StatusOr<ProcessIdentity> IdentifyProcess(pid_t pid);

}  // namespace moe
