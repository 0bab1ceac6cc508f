// The GGUF format (versions 2 and 3, little-endian): memory-mapped reading with every check.
//
// File = header, metadata key/value pairs, tensor infos, padding, tensor data.
// Source: the GGUF specification in the ggml repository.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/file.h"
#include "storage/artefacts/ggml_types.h"

namespace moe::artefacts {

// Numbers as in the file format.
enum class GgufValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  std::vector<int64_t> shape;  // slowest dimension first, as in PyTorch: [rows, columns]
  uint64_t offset = 0;         // in the file
  uint64_t size_bytes = 0;

  int64_t numel() const;
  int64_t columns() const { return shape.back(); }
  int64_t rows() const { return numel() / columns(); }
};

// Open() checks every byte that is not tensor data, so nothing after it can read out of bounds.
// DATA_LOSS where the file is damaged: truncated anywhere, counts or offsets beyond its end,
// misaligned or overlapping tensors, duplicate names. INVALID_ARGUMENT where it is not a GGUF file,
// or one of a version or with a tensor type that is not read here. Both name file and place.
class GgufFile {
 public:
  static absl::StatusOr<GgufFile> Open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  uint32_t version() const { return version_; }

  // Metadata. NOT_FOUND where there is no such key, INVALID_ARGUMENT where it has another type:
  // an integer of any width is an Int where it fits, a float of either width is a Double.
  bool Has(const std::string& key) const { return values_.count(key) > 0; }
  absl::StatusOr<int64_t> Int(const std::string& key) const;
  absl::StatusOr<double> Double(const std::string& key) const;
  absl::StatusOr<bool> Bool(const std::string& key) const;
  absl::StatusOr<std::string> String(const std::string& key) const;
  absl::StatusOr<std::vector<int64_t>> Ints(const std::string& key) const;
  absl::StatusOr<std::vector<double>> Doubles(const std::string& key) const;
  absl::StatusOr<std::vector<std::string>> Strings(const std::string& key) const;
  // Elements of an array of any type.
  absl::StatusOr<int64_t> ArraySize(const std::string& key) const;

  const std::vector<GgufTensor>& tensors() const { return tensors_; }  // in file order
  const GgufTensor* Find(const std::string& name) const;               // nullptr: not there

  // Writes rows [first_row, first_row + num_rows) of a tensor of this file as fp32: num_rows *
  // columns() floats. Rows outside the tensor end the process.
  void Dequantise(const GgufTensor& tensor, float* out, int64_t first_row, int64_t num_rows) const;

 private:
  // Where a value lies: decoded when asked for, since the vocabulary alone has 100,000 strings.
  struct Value {
    GgufValueType type = GgufValueType::kUint8;  // of the elements, where is_array
    bool is_array = false;
    uint64_t count = 1;
    size_t offset = 0;  // of the first element, in the file
  };
  class Parser;

  absl::StatusOr<const Value*> Lookup(const std::string& key, bool is_array,
                                      const char* wanted) const;
  absl::Status WrongType(const std::string& key, const Value& value, const char* wanted) const;

  MappedFile file_;
  uint32_t version_ = 0;
  std::map<std::string, Value> values_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t> by_name_;
};

}  // namespace moe::artefacts
