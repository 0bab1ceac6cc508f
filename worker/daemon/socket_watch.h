// Tells when ranks begin to listen: their sockets appear in their folders by a rename
// (common/unix_socket.h), which the kernel reports, so nobody has to look again and again.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file.h"

namespace moe::worker {

// Movable. Not thread-safe.
class SocketWatch {
 public:
  static absl::StatusOr<SocketWatch> Open();

  // Readable once something has happened in a folder.
  int fd() const { return inotify_.get(); }

  // Returns the folder's number here. The kernel ends the watch when the folder is removed.
  absl::StatusOr<int> Add(const std::string& folder);

  // The numbers of the folders in which something got its name since the last call. Never blocks.
  std::vector<int> Take();

 private:
  explicit SocketWatch(FileDescriptor inotify) : inotify_(std::move(inotify)) {}

  FileDescriptor inotify_;
};

}  // namespace moe::worker
