// Reading of a whole large file past the page cache, with its CRC-32C.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace moe::artefacts {

struct FileContent {
  uint64_t size_bytes = 0;
  uint32_t crc32c = 0;
};

// Where bytes [begin, end) of a file are to go.
struct Destination {
  uint64_t begin = 0, end = 0;
  uint8_t* to = nullptr;
};

// Reads a regular file with O_DIRECT (buffered where the file system refuses that), several blocks
// at a time. What is read is as good as the checksum that is returned: compare it before use.
// Blocks go to their destination without a copy where `to - begin` is a multiple of
// kDirectAlignment. Destinations do not overlap in the file.
absl::StatusOr<FileContent> ReadDirect(const std::string& path,
                                       const std::vector<Destination>& destinations = {});

}  // namespace moe::artefacts
