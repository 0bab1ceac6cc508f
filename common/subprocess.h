// Starts a program that lives on its own: in its own session, with nothing of ours but what it is
// given, and not ended when we are.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace moe {

struct DetachedProgram {
  std::vector<std::string> argv;         // argv[0] is the path of the program
  std::vector<std::string> environment;  // "NAME=value"; the whole of it
  std::string output_path;               // both standard streams are appended here
};

// Forks; calls `before_exec(pid)`; if that is OK, lets the child become the program. A child whose
// parent dies, or fails, before that point ends without having run anything: what `before_exec`
// makes durable is therefore known of every program that ever ran.
//
// The program gets a session and a process group of its own, /dev/null as standard input, no other
// open file, and default signal handling. The caller waits for it (waitpid).
//
// Errors: that of `before_exec`; NOT_FOUND or PERMISSION_DENIED where argv[0] cannot be run.
absl::StatusOr<pid_t> StartDetached(const DetachedProgram& program,
                                    const std::function<absl::Status(pid_t)>& before_exec);

}  // namespace moe
