// The safetensors format: memory-mapped reading with every check, aligned writing.
//
// File = u64 little-endian header length, JSON header {name: {dtype, shape, data_offsets}}, data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file.h"
#include "storage/artefacts/direct_writer.h"

namespace moe::artefacts {

// Element types that we read and write.
enum class DType { kF32, kF16, kBf16, kI64, kI32, kU8 };
size_t DTypeSize(DType dtype);
const char* DTypeName(DType dtype);  // "F32"

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  uint64_t offset = 0;  // in the file
  uint64_t size_bytes = 0;
  int64_t numel() const;
};

// Refuses (INVALID_ARGUMENT or DATA_LOSS, naming file and tensor): truncated files, header over
// 100 MB, duplicate names, unknown dtypes, offsets beyond the file, overlapping ranges or holes,
// sizes that do not match the shape.
class SafetensorsFile {
 public:
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // in file order
  const TensorInfo* Find(const std::string& name) const;               // nullptr: not there
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // Valid as long as this object lives.
  const uint8_t* bytes() const { return file_.data(); }  // of the whole file
  const uint8_t* data(const TensorInfo& tensor) const { return file_.data() + tensor.offset; }
  // Hints for reading a file that is larger than memory should hold. WillRead starts reading the
  // tensor from the disk; HaveRead takes its pages out of this process, so that they do not count
  // as its memory (reading them again is allowed).
  void WillRead(const TensorInfo& tensor) const;
  void HaveRead(const TensorInfo& tensor) const;

 private:
  MappedFile file_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, size_t> by_name_;
  std::map<std::string, std::string> metadata_;
};

// Writes a file piece by piece with DirectWriter, past the page cache.
class SafetensorsWriter {
 public:
  struct Entry {
    std::string name;
    DType dtype = DType::kF32;
    std::vector<int64_t> shape;
  };
  struct Result {
    uint64_t size_bytes = 0;
    uint32_t crc32c = 0;
  };

  // Creates the file and writes the header (padded so that data starts at a multiple of 4096).
  static absl::StatusOr<std::unique_ptr<SafetensorsWriter>> Create(
      const std::string& path, const std::vector<Entry>& entries,
      const std::map<std::string, std::string>& metadata,
      ReadBack read_back = ReadBack::kEachBlock);
  ~SafetensorsWriter();  // an unfinished file is removed

  // Appends bytes of the tensors, in the order of `entries`; any piece size.
  absl::Status Append(const void* data, size_t size);
  // The same without a copy where `data` is aligned; the caller keeps it until Finish.
  absl::Status AppendKept(const void* data, size_t size);
  // Flushes, syncs, closes. INTERNAL where bytes are missing. RESOURCE_EXHAUSTED on a full disk.
  absl::StatusOr<Result> Finish();

 private:
  class Impl;
  absl::Status CheckRoom(size_t size) const;
  explicit SafetensorsWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moe::artefacts
