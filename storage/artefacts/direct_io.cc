#include "storage/artefacts/direct_io.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace moe::artefacts {
namespace {

// Calls `move`, a system call that moves what it can from byte `done` on, until all `size` bytes
// are moved. Returns 1; or what the call that ended it returned: 0, or -1 with errno.
//
// EINVAL turns O_DIRECT off: some file systems take the flag when the file is opened and refuse the
// call, and a short one may end where O_DIRECT cannot go on. Once: other threads do the same.
template <typename Move>
ssize_t MoveAll(int fd, size_t size, const Move& move) {
  bool is_off = false;
  for (size_t done = 0; done < size;) {
    const ssize_t n = move(done);
    if (n > 0) {
      done += static_cast<size_t>(n);
    } else if (n < 0 && errno == EINVAL && !is_off) {
      const int flags = ::fcntl(fd, F_GETFL);
      if (flags < 0 || ::fcntl(fd, F_SETFL, flags & ~O_DIRECT) != 0) return -1;
      is_off = true;
    } else if (n == 0 || errno != EINTR) {
      return n;
    }
  }
  return 1;
}

}  // namespace

AlignedBuffer AllocateAligned(size_t size) {
  auto* p = static_cast<uint8_t*>(std::aligned_alloc(kDirectAlignment, size));
  MOE_CHECK(p != nullptr);
  return AlignedBuffer(p);
}

absl::StatusOr<FileDescriptor> OpenDirect(const std::string& path, int flags) {
  FileDescriptor fd(::open(path.c_str(), flags | O_DIRECT | O_CLOEXEC, 0644));
  if (!fd.valid() && errno == EINVAL) {
    fd = FileDescriptor(::open(path.c_str(), flags | O_CLOEXEC, 0644));
  }
  if (fd.valid()) return fd;
  return ErrnoStatus(errno, ((flags & O_CREAT) != 0 ? "cannot create " : "cannot open ") + path);
}

absl::Status WriteAt(int fd, const uint8_t* data, size_t size, uint64_t offset,
                     const std::string& path) {
  const size_t whole = AlignUp(size);
  const ssize_t n = MoveAll(fd, whole, [&](size_t done) {
    return ::pwrite(fd, data + done, whole - done, static_cast<off_t>(offset + done));
  });
  return n > 0 ? absl::OkStatus() : DiskError(n < 0 ? errno : EIO, "write", path);
}

absl::Status ReadAt(int fd, uint8_t* data, size_t size, uint64_t offset, const std::string& path) {
  const size_t whole = AlignUp(size);
  const ssize_t n = MoveAll(fd, size, [&](size_t done) {
    return ::pread(fd, data + done, whole - done, static_cast<off_t>(offset + done));
  });
  if (n > 0) return absl::OkStatus();
  if (n < 0) return DiskError(errno, "read", path);
  return DataLoss("{} ends before byte {}", path, offset + size);
}

absl::Status DiskError(int errno_value, const std::string& what, const std::string& path) {
  const absl::Status status = ErrnoStatus(errno_value, fmt::format("cannot {} {}", what, path));
  if (errno_value != ENOSPC && errno_value != EDQUOT) return status;
  const auto free_bytes = FreeSpaceBytes(path);
  if (!free_bytes.ok()) return status;
  return ResourceExhausted("{} ({} bytes are free there); make room or use another disk",
                           Message(status), *free_bytes);
}

}  // namespace moe::artefacts
