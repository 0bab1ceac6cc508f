#include "storage/artefacts/direct_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "common/crc32c.h"
#include "common/status.h"

namespace moe::artefacts {
namespace {

// Large enough that a disk is busy with one write, small enough to stay in the second-level cache
// between the copy, the checksum and the write.
constexpr size_t kBufferBytes = 4 << 20;

}  // namespace

AlignedBuffer AllocateAligned(size_t size) {
  auto* p = static_cast<uint8_t*>(std::aligned_alloc(kDirectAlignment, size));
  MOE_CHECK(p != nullptr);
  return AlignedBuffer(p);
}

absl::StatusOr<std::unique_ptr<DirectWriter>> DirectWriter::Create(const std::string& path,
                                                                   uint64_t size_bytes) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
  bool direct = true;
  FileDescriptor fd(::open(path.c_str(), kFlags | O_DIRECT, 0644));
  if (!fd.valid() && errno == EINVAL) {
    direct = false;
    fd = FileDescriptor(::open(path.c_str(), kFlags, 0644));
  }
  if (!fd.valid()) return ErrnoStatus(errno, "cannot create " + path);
  std::unique_ptr<DirectWriter> writer(new DirectWriter(path, std::move(fd), direct));
  MOE_RETURN_IF_ERROR(writer->Reserve(size_bytes));
  return writer;
}

absl::Status DirectWriter::Reserve(uint64_t size_bytes) {
  if (size_bytes == 0) return absl::OkStatus();
  const std::string what = fmt::format("reserve {} bytes for", size_bytes);
  // A file system takes what is left before it finds that it is too little: until it has given that
  // back, everybody else's disk is full.
  const auto free_bytes = FreeSpaceBytes(path_);
  if (free_bytes.ok() && size_bytes > *free_bytes) return Fail(DescribeError(ENOSPC, what));
  // Not posix_fallocate, which writes the whole file where the file system cannot reserve.
  if (::fallocate(fd_.get(), 0, 0, static_cast<off_t>(size_bytes)) != 0 &&
      (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) {
    return Fail(DescribeError(errno, what));
  }
  return absl::OkStatus();
}

DirectWriter::DirectWriter(std::string path, FileDescriptor fd, bool direct)
    : path_(std::move(path)),
      fd_(std::move(fd)),
      direct_(direct),
      buffer_(AllocateAligned(kBufferBytes)) {}

DirectWriter::~DirectWriter() {
  if (!finished_ && status_.ok()) ::unlink(path_.c_str());
}

absl::Status DirectWriter::Fail(absl::Status status) {
  ::unlink(path_.c_str());
  fd_.Close();
  status_ = std::move(status);
  return status_;
}

absl::Status DirectWriter::DescribeError(int errno_value, const std::string& what) const {
  const absl::Status status = ErrnoStatus(errno_value, fmt::format("cannot {} {}", what, path_));
  if (errno_value != ENOSPC && errno_value != EDQUOT) return status;
  const auto free_bytes = FreeSpaceBytes(path_);
  if (!free_bytes.ok()) return status;
  return ResourceExhausted("{} ({} bytes are free there); make room or use another disk",
                           Message(status), *free_bytes);
}

absl::Status DirectWriter::Append(const void* data, size_t size) {
  if (!status_.ok()) return status_;
  if (finished_) return Internal("{}: append after the end", path_);
  const auto* bytes = static_cast<const uint8_t*>(data);
  while (size > 0) {
    const size_t piece = std::min(size, kBufferBytes - buffered_);
    std::memcpy(buffer_.get() + buffered_, bytes, piece);
    crc32c_ = Crc32c(buffer_.get() + buffered_, piece, crc32c_);
    buffered_ += piece;
    size_bytes_ += piece;
    bytes += piece;
    size -= piece;
    if (buffered_ == kBufferBytes) {
      MOE_RETURN_IF_ERROR(WriteBuffer(buffered_));
      buffered_ = 0;
    }
  }
  return absl::OkStatus();
}

absl::Status DirectWriter::UsePageCache() {
  direct_ = false;
  const int flags = ::fcntl(fd_.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd_.get(), F_SETFL, flags & ~O_DIRECT) != 0) {
    return Fail(DescribeError(errno, "turn off direct writing of"));
  }
  return absl::OkStatus();
}

absl::Status DirectWriter::WriteBuffer(size_t size) {
  size_t written = 0;
  while (written < size) {
    // A short write may end where O_DIRECT cannot go on.
    if (direct_ && written % kDirectAlignment != 0) MOE_RETURN_IF_ERROR(UsePageCache());
    const ssize_t n = ::write(fd_.get(), buffer_.get() + written, size - written);
    if (n >= 0) {
      written += static_cast<size_t>(n);
    } else if (errno == EINVAL && direct_) {
      // Some file systems take the flag when the file is opened and refuse the write.
      MOE_RETURN_IF_ERROR(UsePageCache());
    } else if (errno != EINTR) {
      return Fail(DescribeError(errno, "write"));
    }
  }
  return absl::OkStatus();
}

absl::Status DirectWriter::Finish() {
  if (!status_.ok()) return status_;
  if (finished_) return Internal("{}: finished twice", path_);
  if (buffered_ > 0) {
    // The last write is rounded up to whole blocks; the excess is cut off below.
    const size_t rounded = (buffered_ + kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment;
    const size_t size = direct_ ? rounded : buffered_;
    std::memset(buffer_.get() + buffered_, 0, size - buffered_);
    MOE_RETURN_IF_ERROR(WriteBuffer(size));
  }
  if (::ftruncate(fd_.get(), static_cast<off_t>(size_bytes_)) != 0) {
    return Fail(DescribeError(errno, "set the size of"));
  }
  if (::fsync(fd_.get()) != 0) return Fail(DescribeError(errno, "sync"));
  if (::close(fd_.Release()) != 0) return Fail(DescribeError(errno, "close"));
  finished_ = true;
  return absl::OkStatus();
}

}  // namespace moe::artefacts
