#include "worker/daemon/state_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "common/status.h"

namespace moe::worker {

absl::StatusOr<StateDir> StateDir::Lock(const std::string& path) {
  std::error_code error;
  const std::string absolute = std::filesystem::absolute(path, error).lexically_normal().string();
  if (error) return ErrnoStatus(error.value(), "cannot resolve the state folder " + path);
  MOE_RETURN_IF_ERROR(MakeDirectories(absolute + "/runs"));
  const std::string lock_path = absolute + "/lock";
  FileDescriptor lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!lock.valid()) return ErrnoStatus(errno, "cannot open " + lock_path);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoStatus(errno, "cannot lock " + lock_path);
    const auto holder = ReadFile(lock_path);
    return FailedPrecondition(
        "the state folder {} is in use by process {}; stop that moe-worker or give this one "
        "another --state-dir",
        absolute, holder.ok() && !holder->empty() ? *holder : "(unknown)");
  }
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(lock.get(), 0) != 0) return ErrnoStatus(errno, "cannot truncate " + lock_path);
  MOE_RETURN_IF_ERROR(WriteAll(lock.get(), pid.data(), pid.size(), lock_path));
  return StateDir(absolute, std::move(lock));
}

}  // namespace moe::worker
