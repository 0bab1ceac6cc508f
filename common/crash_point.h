// Named moments at which a test can end the process, to see what survives.
#pragma once

namespace moe {

// Ends the process with SIGKILL where the environment variable MOE_UNSAFE_CRASH_AT names this
// point: "after_backward" the first time it is reached, "after_backward:3" the third. Where
// MOE_UNSAFE_CRASH_ONCE names a file as well, only the process that manages to create it is ended,
// so that a retry gets past the point. Otherwise does nothing. Thread-safe.
void CrashPoint(const char* name);

}  // namespace moe
