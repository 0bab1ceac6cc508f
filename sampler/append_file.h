// A file that only grows, so that a process that is killed can go on where it was last synced.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file.h"

namespace moe::sampler {

// Buffers its writes. Not thread-safe.
class AppendFile {
 public:
  // Opens `path` for writing after its first `size` bytes; what is behind them is cut off. 0 makes
  // the file or empties it. DATA_LOSS where the file has fewer bytes.
  static absl::StatusOr<AppendFile> Open(const std::string& path, uint64_t size);

  absl::Status Append(const void* data, size_t size);
  // Hands everything to the operating system: other readers of the file see it.
  absl::Status Flush();
  // Flushes and makes it durable. RESOURCE_EXHAUSTED on a full disk.
  absl::Status Sync();
  // Keeps the first `size` bytes, of at most size().
  absl::Status Truncate(uint64_t size);

  uint64_t size() const { return size_; }  // with what is not flushed yet
  const std::string& path() const { return path_; }

 private:
  AppendFile(std::string path, FileDescriptor fd, uint64_t size)
      : path_(std::move(path)), fd_(std::move(fd)), size_(size) {}

  std::string path_;
  FileDescriptor fd_;
  uint64_t size_;
  std::vector<uint8_t> buffer_;
};

}  // namespace moe::sampler
