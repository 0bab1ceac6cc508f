#pragma once

#include "absl/synchronization/mutex.h"

namespace moe {

// Debian's Abseil looks for deadlocks to come at every lock that a thread takes, and does so under
// one lock of the whole process: 4 % of a busy coordinator. For the programs that users run; those
// that tests run, which have assertions, go on looking. Call it first in main.
inline void StopLookingForDeadlocks() {
#ifdef NDEBUG
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
#endif
}

}  // namespace moe
