// Sequential writing of a large file past the page cache, with its CRC-32C.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file.h"

namespace moe::artefacts {

// O_DIRECT wants memory, offsets and sizes in multiples of the logical block size of the device;
// 4096 is a multiple of every one in use.
inline constexpr size_t kDirectAlignment = 4096;

struct AlignedFree {
  void operator()(uint8_t* p) const { std::free(p); }
};
using AlignedBuffer = std::unique_ptr<uint8_t[], AlignedFree>;
// Ends the process where there is no memory.
AlignedBuffer AllocateAligned(size_t size);

// Writes with O_DIRECT; buffered where the file system refuses that. Removes the file where
// anything fails, and where it is destroyed before Finish().
class DirectWriter {
 public:
  // Reserves `size_bytes` on the disk, so that a full one is seen before anything is written:
  // RESOURCE_EXHAUSTED with what is needed and free.
  static absl::StatusOr<std::unique_ptr<DirectWriter>> Create(const std::string& path,
                                                              uint64_t size_bytes);
  ~DirectWriter();
  DirectWriter(const DirectWriter&) = delete;
  DirectWriter& operator=(const DirectWriter&) = delete;

  // Every call after a failed one fails in the same way.
  absl::Status Append(const void* data, size_t size);
  // Writes the rest, cuts the file to its exact size, syncs and closes it.
  absl::Status Finish();

  uint64_t size_bytes() const { return size_bytes_; }  // appended so far
  uint32_t crc32c() const { return crc32c_; }          // of all that

 private:
  DirectWriter(std::string path, FileDescriptor fd, bool direct);

  absl::Status WriteBuffer(size_t size);
  absl::Status UsePageCache();
  // Asks for the blocks at once; fails, without taking any, where they are more than there are.
  absl::Status Reserve(uint64_t size_bytes);
  absl::Status Fail(absl::Status status);  // removes the file
  // What a failed write means, with the free space where the disk is full.
  absl::Status DescribeError(int errno_value, const std::string& what) const;

  const std::string path_;
  FileDescriptor fd_;
  bool direct_;
  AlignedBuffer buffer_;
  size_t buffered_ = 0;
  uint64_t size_bytes_ = 0;
  uint32_t crc32c_ = 0;
  bool finished_ = false;
  absl::Status status_;
};

}  // namespace moe::artefacts
