#include "storage/artefacts/safetensors.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "common/json.h"
#include "common/status.h"

namespace moe::artefacts {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // as in the reference implementation

constexpr struct {
  DType dtype;
  const char* name;
  size_t size;
} kDTypes[] = {{DType::kF32, "F32", 4}, {DType::kF16, "F16", 2}, {DType::kBf16, "BF16", 2},
               {DType::kI64, "I64", 8}, {DType::kI32, "I32", 4}, {DType::kU8, "U8", 1}};

uint64_t PageBytes() {
  static const auto bytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

std::optional<DType> FindDType(const std::string& name) {
  for (const auto& entry : kDTypes) {
    if (entry.name == name) return entry.dtype;
  }
  return std::nullopt;
}

std::optional<uint64_t> AsUnsigned(const Json& json) {
  if (!json.is_number_unsigned()) return std::nullopt;
  return json.get<uint64_t>();
}

// The header as JSON. The library keeps the last of two equal keys, so duplicates are looked for
// while it parses.
absl::StatusOr<Json> ParseHeader(const std::string& text, const std::string& path) {
  std::set<std::string> names;
  std::string duplicate;
  const auto check_key = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::key && depth == 1 &&
        !names.insert(parsed.get<std::string>()).second) {
      duplicate = parsed.get<std::string>();
    }
    return true;
  };
  Json header = Json::parse(text, check_key, /*allow_exceptions=*/false);
  if (!header.is_object()) return DataLoss("{}: the header is not a JSON object", path);
  if (!duplicate.empty()) return DataLoss("{}: tensor {} occurs twice", path, duplicate);
  return header;
}

absl::StatusOr<std::map<std::string, std::string>> ParseMetadata(const Json& json,
                                                                 const std::string& path) {
  std::map<std::string, std::string> metadata;
  if (!json.is_object()) return DataLoss("{}: __metadata__ is not an object", path);
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) return DataLoss("{}: __metadata__: {} is not a string", path, key);
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

// `data_start` is where the offsets of the header count from.
absl::StatusOr<TensorInfo> ParseTensor(const std::string& name, const Json& json,
                                       const std::string& path, uint64_t data_start,
                                       uint64_t data_bytes) {
  JsonReader reader(json, path + ": " + name);
  const std::string dtype_name = reader.String("dtype");
  const Json& shape = reader.Array("shape");
  const Json& range = reader.Array("data_offsets");
  if (!reader.status().ok()) return DataLoss("{}", Message(reader.status()));

  TensorInfo tensor;
  tensor.name = name;
  const std::optional<DType> dtype = FindDType(dtype_name);
  if (!dtype) {
    return InvalidArgument(
        "{}: tensor {} has the type {}, which is not supported; use F32, F16, BF16, I64, I32 or U8",
        path, name, dtype_name);
  }
  tensor.dtype = *dtype;
  uint64_t size_bytes = DTypeSize(*dtype);
  for (const Json& item : shape) {
    const std::optional<uint64_t> size = AsUnsigned(item);
    if (!size || *size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ||
        __builtin_mul_overflow(size_bytes, *size, &size_bytes)) {
      return DataLoss("{}: tensor {}: impossible shape {}", path, name, shape.dump());
    }
    tensor.shape.push_back(static_cast<int64_t>(*size));
  }
  const std::optional<uint64_t> begin = range.size() == 2 ? AsUnsigned(range[0]) : std::nullopt;
  const std::optional<uint64_t> end = range.size() == 2 ? AsUnsigned(range[1]) : std::nullopt;
  if (!begin || !end || *begin > *end) {
    return DataLoss("{}: tensor {}: impossible data_offsets {}", path, name, range.dump());
  }
  if (*end > data_bytes) {
    return DataLoss(
        "{}: tensor {}: bytes {} to {} of the data, but the file has {}; it is "
        "truncated, fetch it again",
        path, name, *begin, *end, data_bytes);
  }
  if (*end - *begin != size_bytes) {
    return DataLoss("{}: tensor {}: shape {} of {} needs {} bytes, data_offsets gives {}", path,
                    name, shape.dump(), dtype_name, size_bytes, *end - *begin);
  }
  tensor.offset = data_start + *begin;
  tensor.size_bytes = size_bytes;
  return tensor;
}

// That the tensors, in file order, cover the data from `data_start` to `file_size` exactly.
absl::Status CheckCoverage(const std::vector<TensorInfo>& tensors, const std::string& path,
                           uint64_t data_start, uint64_t file_size) {
  uint64_t covered = data_start;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.offset < covered) {
      return DataLoss("{}: tensor {} overlaps the one before it by {} bytes", path, tensor.name,
                      covered - tensor.offset);
    }
    if (tensor.offset > covered) {
      return DataLoss("{}: {} bytes before tensor {} belong to no tensor", path,
                      tensor.offset - covered, tensor.name);
    }
    covered += tensor.size_bytes;
  }
  if (covered != file_size) {
    return DataLoss("{}: {} bytes at the end belong to no tensor", path, file_size - covered);
  }
  return absl::OkStatus();
}

}  // namespace

size_t DTypeSize(DType dtype) {
  for (const auto& entry : kDTypes) {
    if (entry.dtype == dtype) return entry.size;
  }
  return 0;
}

const char* DTypeName(DType dtype) {
  for (const auto& entry : kDTypes) {
    if (entry.dtype == dtype) return entry.name;
  }
  return "?";
}

int64_t TensorInfo::numel() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  SafetensorsFile result;
  MOE_ASSIGN_OR_RETURN(result.file_, MappedFile::Open(path));
  const uint8_t* data = result.file_.data();
  const uint64_t file_size = result.file_.size();
  uint64_t header_bytes = 0;
  if (file_size < sizeof header_bytes) {
    return DataLoss(
        "{} has {} bytes; a safetensors file starts with the 8-byte length of its "
        "header",
        path, file_size);
  }
  std::memcpy(&header_bytes, data, sizeof header_bytes);
  if (header_bytes > kMaxHeaderBytes) {
    return InvalidArgument(
        "{}: a header of {} bytes; at most {} are read, so this is no "
        "safetensors file",
        path, header_bytes, kMaxHeaderBytes);
  }
  if (header_bytes > file_size - sizeof header_bytes) {
    return DataLoss("{}: a header of {} bytes in a file of {}; it is truncated, fetch it again",
                    path, header_bytes, file_size);
  }
  const uint64_t data_start = sizeof header_bytes + header_bytes;
  const std::string text(reinterpret_cast<const char*>(data) + sizeof header_bytes, header_bytes);
  MOE_ASSIGN_OR_RETURN(const Json header, ParseHeader(text, path));
  for (const auto& [name, json] : header.items()) {
    if (name == "__metadata__") {
      MOE_ASSIGN_OR_RETURN(result.metadata_, ParseMetadata(json, path));
      continue;
    }
    MOE_ASSIGN_OR_RETURN(TensorInfo tensor,
                         ParseTensor(name, json, path, data_start, file_size - data_start));
    result.tensors_.push_back(std::move(tensor));
  }
  std::sort(
      result.tensors_.begin(), result.tensors_.end(), [](const TensorInfo& a, const TensorInfo& b) {
        return std::tie(a.offset, a.size_bytes, a.name) < std::tie(b.offset, b.size_bytes, b.name);
      });
  MOE_RETURN_IF_ERROR(CheckCoverage(result.tensors_, path, data_start, file_size));
  for (size_t i = 0; i < result.tensors_.size(); ++i) result.by_name_[result.tensors_[i].name] = i;
  return result;
}

// Both are hints: what the kernel answers changes nothing.
void SafetensorsFile::WillRead(const TensorInfo& tensor) const {
  const uint64_t begin = tensor.offset / PageBytes() * PageBytes();
  (void)::madvise(const_cast<uint8_t*>(file_.data()) + begin,
                  tensor.offset + tensor.size_bytes - begin, MADV_WILLNEED);
}

void SafetensorsFile::HaveRead(const TensorInfo& tensor) const {
  // Whole pages alone: the first and the last may hold a neighbour's values too.
  const uint64_t begin = (tensor.offset + PageBytes() - 1) / PageBytes() * PageBytes();
  const uint64_t end = (tensor.offset + tensor.size_bytes) / PageBytes() * PageBytes();
  if (begin >= end) return;
  (void)::madvise(const_cast<uint8_t*>(file_.data()) + begin, end - begin, MADV_DONTNEED);
}

const TensorInfo* SafetensorsFile::Find(const std::string& name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

}  // namespace moe::artefacts
