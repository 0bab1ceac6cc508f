#include "storage/artefacts/direct_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/crc32c.h"
#include "common/status.h"

namespace moe::artefacts {
namespace {

// One that is filled, one for each thread, and one that waits, so that none has to.
constexpr int kMaxBuffers = kDirectThreads + 2;

}  // namespace

absl::StatusOr<std::unique_ptr<DirectWriter>> DirectWriter::Create(const std::string& path,
                                                                   uint64_t size_bytes,
                                                                   ReadBack read_back) {
  MOE_ASSIGN_OR_RETURN(FileDescriptor fd, OpenDirect(path, O_RDWR | O_CREAT | O_TRUNC));
  std::unique_ptr<DirectWriter> writer(new DirectWriter(path, std::move(fd), read_back));
  MOE_RETURN_IF_ERROR(writer->Reserve(size_bytes));
  return writer;
}

absl::Status DirectWriter::Reserve(uint64_t size_bytes) {
  if (size_bytes == 0) return absl::OkStatus();
  const std::string what = fmt::format("reserve {} bytes for", size_bytes);
  // A file system takes what is left before it finds that it is too little: until it has given that
  // back, everybody else's disk is full.
  const auto free_bytes = FreeSpaceBytes(path_);
  if (free_bytes.ok() && size_bytes > *free_bytes) return Fail(DiskError(ENOSPC, what, path_));
  // Not posix_fallocate, which writes the whole file where the file system cannot reserve.
  if (::fallocate(fd_.get(), 0, 0, static_cast<off_t>(size_bytes)) != 0 &&
      (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) {
    return Fail(DiskError(errno, what, path_));
  }
  return absl::OkStatus();
}

DirectWriter::DirectWriter(std::string path, FileDescriptor fd, ReadBack read_back)
    : path_(std::move(path)), fd_(std::move(fd)), read_back_(read_back) {
  filling_.owned = AllocateAligned(kDirectBlockBytes);
}

DirectWriter::~DirectWriter() {
  Abandon();
  if (!finished_ && status_.ok()) ::unlink(path_.c_str());
}

absl::Status DirectWriter::Fail(absl::Status status) {
  Abandon();
  ::unlink(path_.c_str());
  fd_.Close();
  status_ = std::move(status);
  return status_;
}

absl::Status DirectWriter::Append(const void* data, size_t size) {
  if (!status_.ok()) return status_;
  if (finished_) return Internal("{}: append after the end", path_);
  const auto* bytes = static_cast<const uint8_t*>(data);
  while (size > 0) {
    const size_t piece = std::min(size, kDirectBlockBytes - filling_.size);
    std::memcpy(filling_.owned.get() + filling_.size, bytes, piece);
    filling_.size += piece;
    size_bytes_ += piece;
    bytes += piece;
    size -= piece;
    if (filling_.size == kDirectBlockBytes) {
      if (absl::Status status = HandOver(); !status.ok()) return Fail(std::move(status));
    }
  }
  return absl::OkStatus();
}

absl::Status DirectWriter::AppendKept(const void* data, size_t size) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  // Where one of both is not aligned all of it is copied, else what is no whole sector at its end.
  if (status_.ok() && !finished_ && filling_.size % kDirectAlignment == 0 &&
      reinterpret_cast<uintptr_t>(bytes) % kDirectAlignment == 0 && size >= kDirectAlignment) {
    if (filling_.size > 0) {
      if (absl::Status status = HandOver(); !status.ok()) return Fail(std::move(status));
    }
    StartThreads();
    absl::MutexLock lock(&mutex_);
    while (size >= kDirectAlignment) {
      const size_t piece = std::min(size / kDirectAlignment * kDirectAlignment, kDirectBlockBytes);
      Enqueue({.owned = nullptr, .kept = bytes, .size = piece, .offset = filling_.offset});
      filling_.offset += piece;
      size_bytes_ += piece;
      bytes += piece;
      size -= piece;
    }
  }
  return Append(bytes, size);
}

void DirectWriter::StartThreads() {
  while (threads_.size() < kDirectThreads) threads_.emplace_back([this] { RunThread(); });
}

void DirectWriter::Enqueue(Block block) {
  block.number = sums_.size();
  sums_.emplace_back();
  full_.push_back(std::move(block));
}

absl::Status DirectWriter::HandOver() {
  StartThreads();
  const uint64_t next = filling_.offset + filling_.size;
  absl::MutexLock lock(&mutex_);
  Enqueue(std::move(filling_));
  filling_ = {.owned = nullptr, .kept = nullptr, .size = 0, .offset = next};
  if (spare_.empty() && num_buffers_ < kMaxBuffers) {
    ++num_buffers_;
    filling_.owned = AllocateAligned(kDirectBlockBytes);
    return absl::OkStatus();
  }
  const auto can_go_on = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return !spare_.empty() || !written_.ok();
  };
  mutex_.Await(absl::Condition(&can_go_on));
  MOE_RETURN_IF_ERROR(written_);
  filling_.owned = std::move(spare_.back());
  spare_.pop_back();
  return absl::OkStatus();
}

void DirectWriter::RunThread() {
  const AlignedBuffer scratch = AllocateAligned(kDirectBlockBytes);
  const auto has_work = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return !full_.empty() || draining_;
  };
  for (;;) {
    Block block;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&has_work));
      if (full_.empty()) return;
      block = std::move(full_.front());
      full_.pop_front();
      if (!written_.ok()) continue;
    }
    absl::Status status = WriteBlock(block, scratch.get());
    absl::MutexLock lock(&mutex_);
    if (written_.ok()) written_ = std::move(status);
    if (block.owned != nullptr) spare_.push_back(std::move(block.owned));
  }
}

absl::Status DirectWriter::WriteBlock(const Block& block, uint8_t* scratch) {
  const uint8_t* data = block.data();
  const Sum sum = {.crc32c = Crc32c(data, block.size), .size = block.size};
  {
    absl::MutexLock lock(&mutex_);
    sums_[block.number] = sum;
  }
  MOE_RETURN_IF_ERROR(WriteAt(fd_.get(), data, block.size, block.offset, path_));
  if (read_back_ == ReadBack::kNever) return absl::OkStatus();
  return CheckWritten(fd_.get(), data, block.size, block.offset, scratch, path_);
}

absl::Status DirectWriter::Drain() {
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  absl::MutexLock lock(&mutex_);
  return written_;
}

void DirectWriter::Abandon() {
  {
    absl::MutexLock lock(&mutex_);
    if (written_.ok()) written_ = Cancelled("{} is not wanted any more", path_);
  }
  Drain().IgnoreError();  // what came before says more
}

absl::Status DirectWriter::WriteRest() {
  if (filling_.size > 0) {
    // The last write is rounded up to whole blocks; the excess is cut off below.
    std::memset(filling_.owned.get() + filling_.size, 0, AlignUp(filling_.size) - filling_.size);
    {
      absl::MutexLock lock(&mutex_);
      filling_.number = sums_.size();
      sums_.emplace_back();
    }
    const AlignedBuffer scratch = AllocateAligned(AlignUp(filling_.size));
    MOE_RETURN_IF_ERROR(WriteBlock(filling_, scratch.get()));
  }
  MOE_RETURN_IF_ERROR(Drain());
  if (::ftruncate(fd_.get(), static_cast<off_t>(size_bytes_)) != 0) {
    return DiskError(errno, "set the size of", path_);
  }
  if (::fsync(fd_.get()) != 0) return DiskError(errno, "sync", path_);
  if (::close(fd_.Release()) != 0) return DiskError(errno, "close", path_);
  return absl::OkStatus();
}

absl::Status DirectWriter::Finish() {
  if (!status_.ok()) return status_;
  if (finished_) return Internal("{}: finished twice", path_);
  if (absl::Status status = WriteRest(); !status.ok()) return Fail(std::move(status));
  finished_ = true;
  absl::MutexLock lock(&mutex_);
  for (const Sum& sum : sums_) crc32c_ = Crc32cJoin(crc32c_, sum.crc32c, sum.size);
  return absl::OkStatus();
}

absl::Status CheckWritten(int fd, const uint8_t* expected, size_t size, uint64_t offset,
                          uint8_t* scratch, const std::string& path) {
  MOE_RETURN_IF_ERROR(ReadAt(fd, scratch, size, offset, path));
  if (std::memcmp(scratch, expected, size) == 0) return absl::OkStatus();
  return Unavailable("{} does not read back as it was written, at bytes {} to {}", path, offset,
                     offset + size);
}

}  // namespace moe::artefacts
