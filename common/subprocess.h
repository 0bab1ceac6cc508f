// Starts a program that lives on its own: in its own session, with nothing of ours but what it is
// given, and not ended when we are.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/process_info.h"

namespace moe {

struct DetachedProgram {
  std::vector<std::string> argv;         // argv[0] is the path of the program
  std::vector<std::string> environment;  // "NAME=value"; the whole of it
  std::string output_path;               // both standard streams are appended here
  // Where "PID START_TIME\n" is written, whole, before the process becomes the program: a program
  // that ever ran is known by this file, whatever happens to its parent meanwhile. Empty: nowhere.
  std::string identity_path = {};
};

// Starts it and returns when it runs: as long as the kernel takes to load it. The program gets a
// session and a process group of its own, /dev/null as standard input, no other open file, and
// default signal handling. The caller waits for it (waitpid).
//
// Costs the same for a small process and a large one: the child borrows this one's memory until it
// becomes the program (CLONE_VFORK) and copies nothing. It also shares its open files until then,
// so that a lock on one of those (flock) is not free before the outcome is certain.
//
// Errors say which step failed; then nothing has run and no child is left. NOT_FOUND or
// PERMISSION_DENIED where the program cannot be run.
absl::StatusOr<ProcessIdentity> StartDetached(const DetachedProgram& program);

}  // namespace moe
