// Reading of a whole large file past the page cache, with its CRC-32C.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"

namespace moe::artefacts {

struct FileContent {
  uint64_t size_bytes = 0;
  uint32_t crc32c = 0;
};

// Takes `size` bytes that begin at `offset` of the file. Called on several threads at once, in any
// order, once for each block of the file.
using TakeBlock = std::function<void(uint64_t offset, const uint8_t* data, size_t size)>;

// Reads a regular file with O_DIRECT (buffered where the file system refuses that), several blocks
// at a time, and gives each to `take` unless that is empty. What `take` was given is as good as the
// checksum that is returned: compare it before use.
absl::StatusOr<FileContent> ReadDirect(const std::string& path, const TakeBlock& take = nullptr);

}  // namespace moe::artefacts
