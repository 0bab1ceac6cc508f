#include "worker/daemon/socket_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/status.h"

namespace moe::worker {

absl::StatusOr<SocketWatch> SocketWatch::Open() {
  FileDescriptor inotify(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!inotify.valid()) {
    return ErrnoStatus(errno, "cannot watch folders (see fs.inotify.max_user_instances)");
  }
  return SocketWatch(std::move(inotify));
}

absl::StatusOr<int> SocketWatch::Add(const std::string& folder) {
  const int number = ::inotify_add_watch(inotify_.get(), folder.c_str(), IN_MOVED_TO | IN_ONLYDIR);
  if (number < 0) {
    return ErrnoStatus(errno, "cannot watch " + folder + " (see fs.inotify.max_user_watches)");
  }
  return number;
}

std::vector<int> SocketWatch::Take() {
  std::vector<int> numbers;
  alignas(inotify_event) char buffer[1 << 12];
  for (;;) {
    const ssize_t n = ::read(inotify_.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return numbers;
    for (ssize_t at = 0; at < n;) {
      inotify_event event;
      std::memcpy(&event, buffer + at, sizeof event);
      numbers.push_back(event.wd);
      at += static_cast<ssize_t>(sizeof event + event.len);
    }
  }
}

}  // namespace moe::worker
