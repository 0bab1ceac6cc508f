#include "common/unix_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "common/status.h"

namespace moe {
namespace {

// An address for `path` that always fits: /proc/self/fd/N/NAME, with N the folder's descriptor.
struct ShortAddress {
  FileDescriptor folder;  // must stay open while `address` is used
  sockaddr_un address = {};
};

absl::StatusOr<ShortAddress> MakeAddress(const std::string& path) {
  const std::filesystem::path full(path);
  const std::string folder =
      full.has_parent_path() ? full.parent_path().string() : std::string(".");
  ShortAddress result;
  result.folder = FileDescriptor(::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!result.folder.valid()) return ErrnoStatus(errno, "cannot open the folder " + folder);
  const std::string name =
      fmt::format("/proc/self/fd/{}/{}", result.folder.get(), full.filename().string());
  if (name.size() >= sizeof result.address.sun_path) {
    return InvalidArgument(
        "the socket name '{}' is too long: with /proc/self/fd/N/ it has {} bytes, "
        "and {} fit",
        full.filename().string(), name.size(), sizeof result.address.sun_path - 1);
  }
  result.address.sun_family = AF_UNIX;
  std::memcpy(result.address.sun_path, name.c_str(), name.size() + 1);
  return result;
}

absl::StatusOr<FileDescriptor> MakeSocket() {
  FileDescriptor fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot make a Unix socket");
  return fd;
}

}  // namespace

absl::StatusOr<FileDescriptor> ListenUnix(const std::string& path) {
  // Gets its name once it listens, so that whoever waits for the name can connect at once.
  const std::string unnamed = path + ".new";
  MOE_ASSIGN_OR_RETURN(const ShortAddress name, MakeAddress(unnamed));
  MOE_ASSIGN_OR_RETURN(FileDescriptor fd, MakeSocket());
  if (::unlink(unnamed.c_str()) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, "cannot remove the old socket " + unnamed);
  }
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&name.address), sizeof name.address) !=
      0) {
    return ErrnoStatus(errno, "cannot bind the socket " + unnamed);
  }
  if (::listen(fd.get(), 4) != 0) return ErrnoStatus(errno, "cannot listen on " + unnamed);
  if (::rename(unnamed.c_str(), path.c_str()) != 0) {
    return ErrnoStatus(errno, fmt::format("cannot rename {} to {}", unnamed, path));
  }
  return fd;
}

absl::StatusOr<FileDescriptor> ConnectUnix(const std::string& path) {
  MOE_ASSIGN_OR_RETURN(const ShortAddress name, MakeAddress(path));
  MOE_ASSIGN_OR_RETURN(FileDescriptor fd, MakeSocket());
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name.address), sizeof name.address) !=
      0) {
    return ErrnoStatus(errno, "cannot connect to " + path);
  }
  return fd;
}

}  // namespace moe
