#include <limits>
#include <set>
#include <utility>

#include "common/json.h"
#include "common/status.h"
#include "storage/artefacts/safetensors.h"

namespace moe::artefacts {
namespace {

constexpr char kMetadataKey[] = "__metadata__";

}  // namespace

class SafetensorsWriter::Impl {
 public:
  Impl(std::unique_ptr<DirectWriter> writer, std::string path, uint64_t size_bytes)
      : writer(std::move(writer)), path(std::move(path)), size_bytes(size_bytes) {}

  const std::unique_ptr<DirectWriter> writer;
  const std::string path;
  const uint64_t size_bytes;  // of the finished file
};

absl::StatusOr<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(
    const std::string& path, const std::vector<Entry>& entries,
    const std::map<std::string, std::string>& metadata, ReadBack read_back) {
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  uint64_t data_bytes = 0;
  for (const Entry& entry : entries) {
    if (entry.name == kMetadataKey || header.contains(entry.name)) {
      return InvalidArgument("{}: the tensor name {} is taken", path, entry.name);
    }
    uint64_t size = DTypeSize(entry.dtype);
    for (const int64_t dimension : entry.shape) {
      if (dimension < 0 || __builtin_mul_overflow(size, dimension, &size)) {
        return InvalidArgument("{}: tensor {}: impossible dimension {}", path, entry.name,
                               dimension);
      }
    }
    header[entry.name] = {{"dtype", DTypeName(entry.dtype)},
                          {"shape", entry.shape},
                          {"data_offsets", {data_bytes, data_bytes + size}}};
    data_bytes += size;
  }
  std::string text = header.dump();
  uint64_t header_bytes = sizeof header_bytes + text.size();
  header_bytes = (header_bytes + kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment;
  const uint64_t text_bytes = header_bytes - sizeof text_bytes;
  text.resize(text_bytes, ' ');

  const uint64_t size_bytes = header_bytes + data_bytes;
  MOE_ASSIGN_OR_RETURN(auto writer, DirectWriter::Create(path, size_bytes, read_back));
  MOE_RETURN_IF_ERROR(writer->Append(&text_bytes, sizeof text_bytes));
  MOE_RETURN_IF_ERROR(writer->Append(text.data(), text.size()));
  return std::unique_ptr<SafetensorsWriter>(
      new SafetensorsWriter(std::make_unique<Impl>(std::move(writer), path, size_bytes)));
}

SafetensorsWriter::SafetensorsWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SafetensorsWriter::~SafetensorsWriter() = default;

absl::Status SafetensorsWriter::CheckRoom(size_t size) const {
  const uint64_t missing = impl_->size_bytes - impl_->writer->size_bytes();
  if (size <= missing) return absl::OkStatus();
  return Internal("{}: {} bytes appended where the tensors have {} left", impl_->path, size,
                  missing);
}

absl::Status SafetensorsWriter::Append(const void* data, size_t size) {
  MOE_RETURN_IF_ERROR(CheckRoom(size));
  return impl_->writer->Append(data, size);
}

absl::Status SafetensorsWriter::AppendKept(const void* data, size_t size) {
  MOE_RETURN_IF_ERROR(CheckRoom(size));
  return impl_->writer->AppendKept(data, size);
}

absl::StatusOr<SafetensorsWriter::Result> SafetensorsWriter::Finish() {
  const uint64_t written = impl_->writer->size_bytes();
  if (written != impl_->size_bytes) {
    return Internal("{}: finished with {} of {} bytes", impl_->path, written, impl_->size_bytes);
  }
  MOE_RETURN_IF_ERROR(impl_->writer->Finish());
  return Result{.size_bytes = written, .crc32c = impl_->writer->crc32c()};
}

}  // namespace moe::artefacts
