#include "sampler/append_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "common/check.h"
#include "common/status.h"

namespace moe::sampler {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

}  // namespace

absl::StatusOr<AppendFile> AppendFile::Open(const std::string& path, uint64_t size) {
  const int flags = O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | (size == 0 ? O_TRUNC : 0);
  FileDescriptor fd(::open(path.c_str(), flags, 0644));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot create " + path);
  if (size > 0) {
    struct stat info;
    if (::fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, "cannot look at " + path);
    if (static_cast<uint64_t>(info.st_size) < size) {
      return DataLoss("{} has {} bytes, and {} were written to it", path, info.st_size, size);
    }
    if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
      return ErrnoStatus(errno, "cannot shorten " + path);
    }
  }
  return AppendFile(path, std::move(fd), size);
}

absl::Status AppendFile::Append(const void* data, size_t size) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  buffer_.insert(buffer_.end(), bytes, bytes + size);
  size_ += size;
  return buffer_.size() >= kBufferBytes ? Flush() : absl::OkStatus();
}

absl::Status AppendFile::Flush() {
  MOE_RETURN_IF_ERROR(WriteAll(fd_.get(), buffer_.data(), buffer_.size(), path_));
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status AppendFile::Sync() {
  MOE_RETURN_IF_ERROR(Flush());
  if (::fdatasync(fd_.get()) != 0) return ErrnoStatus(errno, "cannot sync " + path_);
  return absl::OkStatus();
}

absl::Status AppendFile::Truncate(uint64_t size) {
  MOE_CHECK(size <= size_);
  MOE_RETURN_IF_ERROR(Flush());
  if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) {
    return ErrnoStatus(errno, "cannot shorten " + path_);
  }
  size_ = size;
  return absl::OkStatus();
}

}  // namespace moe::sampler
