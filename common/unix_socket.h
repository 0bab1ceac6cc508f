// Unix stream sockets by path, also where the path is longer than the 107 bytes that a socket
// address holds: the folder is opened first and the name is resolved below it.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/file.h"

namespace moe {

// Listens on `path`, replacing a socket file left there by a process that died. The file appears in
// one step (a rename within its folder) once connections are accepted. Non-blocking.
absl::StatusOr<FileDescriptor> ListenUnix(const std::string& path);

// Connects to the listener on `path`. Non-blocking. NOT_FOUND where there is no socket yet,
// UNAVAILABLE where nobody listens on it (any more).
absl::StatusOr<FileDescriptor> ConnectUnix(const std::string& path);

}  // namespace moe
