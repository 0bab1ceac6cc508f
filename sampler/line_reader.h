// The lines of a text file, plain or compressed, without holding the file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace moe::sampler {

// Where the bytes of a file come from. Not thread-safe.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Fills up to `size` bytes; 0 at the end of the file. DATA_LOSS where a compressed file is broken
  // or ends too early.
  virtual absl::StatusOr<size_t> Read(char* data, size_t size) = 0;
  // How many bytes of the file, as it is on disk, were taken for what was read.
  virtual int64_t bytes_read() const = 0;
};

// By the end of the name: ".gz" is gzip and ".zst" Zstandard, of any number of members; every other
// file is read as it is.
absl::StatusOr<std::unique_ptr<ByteSource>> OpenByteSource(const std::string& path);

// Not thread-safe.
class LineReader {
 public:
  enum class Line {
    kText,
    kTooLong,  // more than the limit; passed over without being held
    kEndOfFile,
  };

  static absl::StatusOr<LineReader> Open(const std::string& path, size_t max_line_bytes);

  // The next line, without its end; the last may lack one.
  absl::StatusOr<Line> Next(std::string& line);

  // Of the file, as it is on disk: up to a buffer more than the lines so far.
  int64_t bytes_read() const { return source_->bytes_read(); }

 private:
  LineReader(std::unique_ptr<ByteSource> source, size_t max_line_bytes);

  std::unique_ptr<ByteSource> source_;
  size_t max_line_bytes_;
  std::vector<char> buffer_;
  size_t begin_ = 0, end_ = 0;  // what is left in the buffer
};

}  // namespace moe::sampler
