// Reading and writing past the page cache: what a checkpoint moves through the disk is not worth
// the memory of others, and what is read back is what the disk holds.
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
constexpr uint64_t AlignUp(uint64_t size) {
  return (size + kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment;
}

struct AlignedFree {
  void operator()(uint8_t* p) const { std::free(p); }
};
using AlignedBuffer = std::unique_ptr<uint8_t[], AlignedFree>;
// Ends the process where there is no memory.
AlignedBuffer AllocateAligned(size_t size);

// A file moves in blocks of so many bytes: large enough that the disk is busy with one, small
// enough to stay in the second-level cache between the disk, the checksum and the copy.
inline constexpr size_t kDirectBlockBytes = size_t{4} << 20;
// So many blocks at once: one call at a time leaves the disk idle between two.
inline constexpr int kDirectThreads = 8;

// open(2) with O_DIRECT, without it where the file system refuses that.
absl::StatusOr<FileDescriptor> OpenDirect(const std::string& path, int flags);

// Whole blocks at aligned offsets, from aligned memory; `size` is rounded up to the alignment
// (memory must reach so far). `fd` gives up O_DIRECT where the file system cannot go on with it.
// RESOURCE_EXHAUSTED where the disk is full.
absl::Status WriteAt(int fd, const uint8_t* data, size_t size, uint64_t offset,
                     const std::string& path);
// DATA_LOSS where the file ends before `size` bytes.
absl::Status ReadAt(int fd, uint8_t* data, size_t size, uint64_t offset, const std::string& path);

// What a failed system call on `path` means, as in "cannot write PATH: no space left", with the
// free space where the disk is full.
absl::Status DiskError(int errno_value, const std::string& what, const std::string& path);

}  // namespace moe::artefacts
