#include "storage/artefacts/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace moe::artefacts {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read in place");

constexpr char kMagic[4] = {'G', 'G', 'U', 'F'};
// Limits of the specification.
constexpr uint64_t kMaxKeyBytes = 65535;
constexpr uint64_t kMaxTensorNameBytes = 64;
constexpr uint32_t kMaxDimensions = 4;
constexpr uint32_t kDefaultAlignment = 32;
// Arrays of arrays are legal, but nobody writes them; the limit bounds the recursion.
constexpr int kMaxArrayDepth = 4;
// The least that an element of these types takes: a length; a type and a count.
constexpr size_t kMinStringBytes = 8;
constexpr size_t kMinArrayBytes = 12;
// The least that an entry of the two lists takes.
constexpr size_t kMinPairBytes = 8 + 4 + 1;
constexpr size_t kMinTensorInfoBytes = 8 + 4 + 8 + 4 + 8;

// 0 where the size depends on the value, nullopt where there is no such type.
std::optional<size_t> ScalarSize(GgufValueType type) {
  switch (type) {
    case GgufValueType::kUint8:
    case GgufValueType::kInt8:
    case GgufValueType::kBool:
      return 1;
    case GgufValueType::kUint16:
    case GgufValueType::kInt16:
      return 2;
    case GgufValueType::kUint32:
    case GgufValueType::kInt32:
    case GgufValueType::kFloat32:
      return 4;
    case GgufValueType::kUint64:
    case GgufValueType::kInt64:
    case GgufValueType::kFloat64:
      return 8;
    case GgufValueType::kString:
    case GgufValueType::kArray:
      return 0;
  }
  return std::nullopt;
}

const char* TypeName(GgufValueType type) {
  constexpr const char* kNames[] = {"uint8",  "int8",    "uint16", "int16",  "uint32",
                                    "int32",  "float32", "bool",   "string", "array",
                                    "uint64", "int64",   "float64"};
  return kNames[static_cast<uint32_t>(type)];
}

template <typename T>
T Load(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// nullopt: not an integer type, or beyond int64.
std::optional<int64_t> DecodeInt(GgufValueType type, const uint8_t* p) {
  switch (type) {
    case GgufValueType::kUint8:
      return *p;
    case GgufValueType::kInt8:
      return Load<int8_t>(p);
    case GgufValueType::kUint16:
      return Load<uint16_t>(p);
    case GgufValueType::kInt16:
      return Load<int16_t>(p);
    case GgufValueType::kUint32:
      return Load<uint32_t>(p);
    case GgufValueType::kInt32:
      return Load<int32_t>(p);
    case GgufValueType::kInt64:
      return Load<int64_t>(p);
    case GgufValueType::kUint64: {
      const auto value = Load<uint64_t>(p);
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> DecodeDouble(GgufValueType type, const uint8_t* p) {
  if (type == GgufValueType::kFloat32) return Load<float>(p);
  if (type == GgufValueType::kFloat64) return Load<double>(p);
  return std::nullopt;
}

std::string DecodeString(const uint8_t* p) {
  return std::string(reinterpret_cast<const char*>(p + 8), Load<uint64_t>(p));
}

}  // namespace

int64_t GgufTensor::numel() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

// Walks through the file once. Everything is compared with what is left of the file before it is
// read or multiplied.
class GgufFile::Parser {
 public:
  explicit Parser(GgufFile& result)
      : result_(result), data_(result.file_.data()), size_(result.file_.size()) {}

  absl::Status Parse() {
    MOE_RETURN_IF_ERROR(ParseHeader());
    for (uint64_t i = 0; i < num_pairs_; ++i) MOE_RETURN_IF_ERROR(ParsePair(i));
    MOE_RETURN_IF_ERROR(ParseAlignment());
    for (uint64_t i = 0; i < num_tensors_; ++i) MOE_RETURN_IF_ERROR(ParseTensorInfo(i));
    return PlaceTensors();
  }

 private:
  size_t left() const { return size_ - position_; }

  template <typename... Args>
  absl::Status Damaged(fmt::format_string<Args...> format, Args&&... args) const {
    return DataLoss("{}: {}; fetch the file again", result_.path(),
                    fmt::format(format, std::forward<Args>(args)...));
  }
  absl::Status Truncated(const std::string& what, uint64_t needed) const {
    return Damaged("truncated in {} at byte {}: needs {} more bytes, the file has {}", what,
                   position_, needed, left());
  }

  template <typename T>
  absl::Status Read(T& value, const std::string& what) {
    if (left() < sizeof(T)) return Truncated(what, sizeof(T));
    value = Load<T>(data_ + position_);
    position_ += sizeof(T);
    return absl::OkStatus();
  }
  absl::Status Skip(uint64_t num_bytes, const std::string& what) {
    if (left() < num_bytes) return Truncated(what, num_bytes);
    position_ += num_bytes;
    return absl::OkStatus();
  }
  absl::Status ReadName(std::string& name, uint64_t max_bytes, const std::string& what) {
    uint64_t length = 0;
    MOE_RETURN_IF_ERROR(Read(length, what));
    if (length > max_bytes) {
      return Damaged("{} at byte {} is {} bytes long; the format allows {}", what, position_,
                     length, max_bytes);
    }
    const size_t start = position_;
    MOE_RETURN_IF_ERROR(Skip(length, what));
    name.assign(reinterpret_cast<const char*>(data_ + start), length);
    return absl::OkStatus();
  }

  absl::Status ParseHeader() {
    if (size_ < sizeof kMagic || std::memcmp(data_, kMagic, sizeof kMagic) != 0) {
      return InvalidArgument("{} is not a GGUF file: it does not start with 'GGUF'",
                             result_.path());
    }
    position_ = sizeof kMagic;
    MOE_RETURN_IF_ERROR(Read(result_.version_, "the header"));
    if (result_.version_ != 2 && result_.version_ != 3) {
      const bool big_endian = result_.version_ != 0 && (result_.version_ & 0xFFFF) == 0;
      return InvalidArgument("{}: GGUF version {}{}; versions 2 and 3, little-endian, are read",
                             result_.path(), result_.version_,
                             big_endian ? " (a big-endian file)" : "");
    }
    MOE_RETURN_IF_ERROR(Read(num_tensors_, "the header"));
    MOE_RETURN_IF_ERROR(Read(num_pairs_, "the header"));
    if (num_pairs_ > left() / kMinPairBytes) {
      return Damaged("the header counts {} metadata entries, more than fit in {} bytes", num_pairs_,
                     left());
    }
    if (num_tensors_ > left() / kMinTensorInfoBytes) {
      return Damaged("the header counts {} tensors, more than fit in {} bytes", num_tensors_,
                     left());
    }
    return absl::OkStatus();
  }

  absl::Status ReadType(GgufValueType& type, const std::string& what) {
    uint32_t number = 0;
    MOE_RETURN_IF_ERROR(Read(number, what));
    type = static_cast<GgufValueType>(number);
    if (!ScalarSize(type)) return Damaged("{}: unknown value type {}", what, number);
    return absl::OkStatus();
  }

  absl::Status SkipElements(GgufValueType type, uint64_t count, const std::string& what,
                            int depth) {
    const size_t scalar_size = *ScalarSize(type);
    const size_t least = scalar_size > 0                  ? scalar_size
                         : type == GgufValueType::kString ? kMinStringBytes
                                                          : kMinArrayBytes;
    if (count > left() / least) {
      return Damaged("{}: {} elements of type {} do not fit in the {} bytes left of the file", what,
                     count, TypeName(type), left());
    }
    if (scalar_size > 0) return Skip(count * scalar_size, what);
    for (uint64_t i = 0; i < count; ++i) {
      if (type == GgufValueType::kString) {
        uint64_t length = 0;
        MOE_RETURN_IF_ERROR(Read(length, what));
        MOE_RETURN_IF_ERROR(Skip(length, what));
        continue;
      }
      if (depth == kMaxArrayDepth) {
        return Damaged("{}: arrays nested deeper than {}", what, kMaxArrayDepth);
      }
      GgufValueType element_type;
      uint64_t element_count = 0;
      MOE_RETURN_IF_ERROR(ReadType(element_type, what));
      MOE_RETURN_IF_ERROR(Read(element_count, what));
      MOE_RETURN_IF_ERROR(SkipElements(element_type, element_count, what, depth + 1));
    }
    return absl::OkStatus();
  }

  absl::Status ParsePair(uint64_t index) {
    std::string key;
    MOE_RETURN_IF_ERROR(ReadName(key, kMaxKeyBytes, fmt::format("the key of entry {}", index)));
    const std::string what = "the metadata of " + key;
    Value value;
    MOE_RETURN_IF_ERROR(ReadType(value.type, what));
    if (value.type == GgufValueType::kArray) {
      value.is_array = true;
      MOE_RETURN_IF_ERROR(ReadType(value.type, what));
      MOE_RETURN_IF_ERROR(Read(value.count, what));
    }
    value.offset = position_;
    MOE_RETURN_IF_ERROR(SkipElements(value.type, value.count, what, /*depth=*/0));
    if (!result_.values_.emplace(key, value).second) {
      return Damaged("the metadata key {} occurs twice", key);
    }
    return absl::OkStatus();
  }

  absl::Status ParseAlignment() {
    constexpr char kKey[] = "general.alignment";
    if (!result_.Has(kKey)) return absl::OkStatus();
    MOE_ASSIGN_OR_RETURN(const int64_t alignment, result_.Int(kKey));
    if (alignment < 1 || alignment > std::numeric_limits<uint32_t>::max() ||
        !std::has_single_bit(static_cast<uint64_t>(alignment))) {
      return Damaged("{} is {}; it must be a power of two", kKey, alignment);
    }
    alignment_ = static_cast<uint64_t>(alignment);
    return absl::OkStatus();
  }

  absl::Status ParseTensorInfo(uint64_t index) {
    GgufTensor tensor;
    MOE_RETURN_IF_ERROR(
        ReadName(tensor.name, kMaxTensorNameBytes, fmt::format("the name of tensor {}", index)));
    const std::string what = "the description of tensor " + tensor.name;
    uint32_t num_dimensions = 0;
    MOE_RETURN_IF_ERROR(Read(num_dimensions, what));
    if (num_dimensions < 1 || num_dimensions > kMaxDimensions) {
      return Damaged("{}: {} dimensions; the format has 1 to {}", what, num_dimensions,
                     kMaxDimensions);
    }
    int64_t numel = 1;
    for (uint32_t i = 0; i < num_dimensions; ++i) {
      uint64_t size = 0;
      MOE_RETURN_IF_ERROR(Read(size, what));
      if (size == 0 || __builtin_mul_overflow(numel, size, &numel)) {
        return Damaged("{}: dimension {} has the size {}", what, i, size);
      }
      tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));
    }
    uint32_t type_number = 0;
    MOE_RETURN_IF_ERROR(Read(type_number, what));
    MOE_RETURN_IF_ERROR(Read(tensor.offset, what));
    const GgmlTypeTraits* traits = FindGgmlType(type_number);
    if (traits == nullptr) {
      return InvalidArgument(
          "{}: tensor {} has the type {}, which is not supported; use a file with {} only",
          result_.path(), tensor.name, DescribeGgmlType(type_number), SupportedGgmlTypes());
    }
    tensor.type = traits->type;
    if (tensor.columns() % traits->block_elements != 0) {
      return Damaged("tensor {}: a row of {} elements is not a multiple of the {} of a {} block",
                     tensor.name, tensor.columns(), traits->block_elements, traits->name);
    }
    if (__builtin_mul_overflow(static_cast<uint64_t>(numel / traits->block_elements),
                               traits->block_bytes, &tensor.size_bytes)) {
      return Damaged("{}: {} elements are more than any file holds", what, numel);
    }
    if (!result_.by_name_.emplace(tensor.name, result_.tensors_.size()).second) {
      return Damaged("tensor {} occurs twice", tensor.name);
    }
    result_.tensors_.push_back(std::move(tensor));
    return absl::OkStatus();
  }

  // Turns offsets from the start of the data into offsets in the file, and checks them.
  absl::Status PlaceTensors() {
    const uint64_t data_start = (position_ + alignment_ - 1) / alignment_ * alignment_;
    for (GgufTensor& tensor : result_.tensors_) {
      if (tensor.offset % alignment_ != 0) {
        return Damaged("tensor {}: its offset {} is not a multiple of the alignment {}",
                       tensor.name, tensor.offset, alignment_);
      }
      const uint64_t data_bytes = size_ < data_start ? 0 : size_ - data_start;
      if (tensor.offset > data_bytes || tensor.size_bytes > data_bytes - tensor.offset) {
        return Damaged("tensor {}: bytes {} to {} + {} of the data, but the file has {}",
                       tensor.name, tensor.offset, tensor.offset, tensor.size_bytes, data_bytes);
      }
      tensor.offset += data_start;
    }
    std::vector<const GgufTensor*> by_offset;
    for (const GgufTensor& tensor : result_.tensors_) by_offset.push_back(&tensor);
    std::sort(by_offset.begin(), by_offset.end(),
              [](const auto* a, const auto* b) { return a->offset < b->offset; });
    for (size_t i = 1; i < by_offset.size(); ++i) {
      const GgufTensor &before = *by_offset[i - 1], &after = *by_offset[i];
      if (before.offset + before.size_bytes > after.offset) {
        return Damaged("the tensors {} and {} overlap at byte {}", before.name, after.name,
                       after.offset);
      }
    }
    return absl::OkStatus();
  }

  GgufFile& result_;
  const uint8_t* const data_;
  const size_t size_;
  size_t position_ = 0;
  uint64_t num_tensors_ = 0;
  uint64_t num_pairs_ = 0;
  uint64_t alignment_ = kDefaultAlignment;
};

absl::StatusOr<GgufFile> GgufFile::Open(const std::string& path) {
  GgufFile result;
  MOE_ASSIGN_OR_RETURN(result.file_, MappedFile::Open(path));
  MOE_RETURN_IF_ERROR(Parser(result).Parse());
  return result;
}

absl::Status GgufFile::WrongType(const std::string& key, const Value& value,
                                 const char* wanted) const {
  return InvalidArgument("{}: {} is {}{}, expected {}", path(), key,
                         value.is_array ? "an array of " : "", TypeName(value.type), wanted);
}

absl::StatusOr<const GgufFile::Value*> GgufFile::Lookup(const std::string& key, bool is_array,
                                                        const char* wanted) const {
  const auto it = values_.find(key);
  if (it == values_.end()) return NotFound("{}: no metadata {}", path(), key);
  if (it->second.is_array != is_array) return WrongType(key, it->second, wanted);
  return &it->second;
}

absl::StatusOr<int64_t> GgufFile::Int(const std::string& key) const {
  constexpr char kWanted[] = "an integer below 2^63";
  MOE_ASSIGN_OR_RETURN(const Value* value, Lookup(key, /*is_array=*/false, kWanted));
  const std::optional<int64_t> decoded = DecodeInt(value->type, file_.data() + value->offset);
  if (!decoded) return WrongType(key, *value, kWanted);
  return *decoded;
}

absl::StatusOr<double> GgufFile::Double(const std::string& key) const {
  constexpr char kWanted[] = "a float";
  MOE_ASSIGN_OR_RETURN(const Value* value, Lookup(key, /*is_array=*/false, kWanted));
  const std::optional<double> decoded = DecodeDouble(value->type, file_.data() + value->offset);
  if (!decoded) return WrongType(key, *value, kWanted);
  return *decoded;
}

absl::StatusOr<bool> GgufFile::Bool(const std::string& key) const {
  constexpr char kWanted[] = "a bool of 0 or 1";
  MOE_ASSIGN_OR_RETURN(const Value* value, Lookup(key, /*is_array=*/false, kWanted));
  const uint8_t byte = file_.data()[value->offset];
  if (value->type != GgufValueType::kBool || byte > 1) return WrongType(key, *value, kWanted);
  return byte == 1;
}

absl::StatusOr<std::string> GgufFile::String(const std::string& key) const {
  constexpr char kWanted[] = "a string";
  MOE_ASSIGN_OR_RETURN(const Value* value, Lookup(key, /*is_array=*/false, kWanted));
  if (value->type != GgufValueType::kString) return WrongType(key, *value, kWanted);
  return DecodeString(file_.data() + value->offset);
}

absl::StatusOr<std::vector<int64_t>> GgufFile::Ints(const std::string& key) const {
  constexpr char kWanted[] = "an array of integers below 2^63";
  MOE_ASSIGN_OR_RETURN(const Value* value, Lookup(key, /*is_array=*/true, kWanted));
  const size_t element_size = *ScalarSize(value->type);
  std::vector<int64_t> result(value->count);
  for (size_t i = 0; i < result.size(); ++i) {
    const std::optional<int64_t> decoded =
        DecodeInt(value->type, file_.data() + value->offset + i * element_size);
    if (!decoded) return WrongType(key, *value, kWanted);
    result[i] = *decoded;
  }
  return result;
}

absl::StatusOr<std::vector<double>> GgufFile::Doubles(const std::string& key) const {
  constexpr char kWanted[] = "an array of floats";
  MOE_ASSIGN_OR_RETURN(const Value* value, Lookup(key, /*is_array=*/true, kWanted));
  const size_t element_size = *ScalarSize(value->type);
  std::vector<double> result(value->count);
  for (size_t i = 0; i < result.size(); ++i) {
    const std::optional<double> decoded =
        DecodeDouble(value->type, file_.data() + value->offset + i * element_size);
    if (!decoded) return WrongType(key, *value, kWanted);
    result[i] = *decoded;
  }
  return result;
}

absl::StatusOr<std::vector<std::string>> GgufFile::Strings(const std::string& key) const {
  constexpr char kWanted[] = "an array of strings";
  MOE_ASSIGN_OR_RETURN(const Value* value, Lookup(key, /*is_array=*/true, kWanted));
  if (value->type != GgufValueType::kString) return WrongType(key, *value, kWanted);
  std::vector<std::string> result;
  result.reserve(value->count);
  const uint8_t* p = file_.data() + value->offset;
  for (uint64_t i = 0; i < value->count; ++i) {
    result.push_back(DecodeString(p));
    p += 8 + result.back().size();
  }
  return result;
}

absl::StatusOr<int64_t> GgufFile::ArraySize(const std::string& key) const {
  MOE_ASSIGN_OR_RETURN(const Value* value, Lookup(key, /*is_array=*/true, "an array"));
  return static_cast<int64_t>(value->count);
}

const GgufTensor* GgufFile::Find(const std::string& name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

void GgufFile::Dequantise(const GgufTensor& tensor, float* out, int64_t first_row,
                          int64_t num_rows) const {
  MOE_CHECK(first_row >= 0 && num_rows >= 0 && num_rows <= tensor.rows() - first_row);
  const GgmlTypeTraits& traits = *FindGgmlType(static_cast<uint32_t>(tensor.type));
  const int64_t blocks_per_row = tensor.columns() / traits.block_elements;
  const uint8_t* blocks = file_.data() + tensor.offset +
                          static_cast<size_t>(first_row * blocks_per_row) * traits.block_bytes;
  DequantiseBlocks(tensor.type, blocks, num_rows * blocks_per_row, out);
}

}  // namespace moe::artefacts
