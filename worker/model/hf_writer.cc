#include "worker/model/hf_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/file.h"
#include "common/json.h"
#include "common/status.h"
#include "storage/artefacts/hf_folder.h"

namespace moe::model {

HfWriter::HfWriter(std::vector<HfTensor> tensors, artefacts::DType dtype, std::string folder,
                   uint64_t max_shard_bytes)
    : tensors_(std::move(tensors)), dtype_(dtype), folder_(std::move(folder)) {
  CutIntoShards(max_shard_bytes);
}

HfWriter::~HfWriter() = default;

uint64_t HfWriter::SizeBytes(const HfTensor& tensor) const {
  return static_cast<uint64_t>(tensor.numel) * artefacts::DTypeSize(dtype_);
}

void HfWriter::CutIntoShards(uint64_t max_shard_bytes) {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const uint64_t size = SizeBytes(tensors_[i]);
    if (shards_.empty() || shards_.back().size_bytes + size > max_shard_bytes) {
      shards_.push_back({.file = {}, .first = i, .end = i, .size_bytes = 0});
    }
    shards_.back().end = i + 1;
    shards_.back().size_bytes += size;
  }
  for (size_t i = 0; i < shards_.size(); ++i) {
    shards_[i].file = shards_.size() == 1
                          ? artefacts::kHfWeightsFile
                          : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards_.size());
  }
}

absl::Status HfWriter::BeginShard() {
  const Shard& shard = shards_[shard_];
  std::vector<artefacts::SafetensorsWriter::Entry> entries;
  for (size_t i = shard.first; i < shard.end; ++i) {
    entries.push_back({tensors_[i].name, dtype_, tensors_[i].shape});
  }
  // transformers refuses files that do not say "pt".
  MOE_ASSIGN_OR_RETURN(writer_, artefacts::SafetensorsWriter::Create(JoinPath(folder_, shard.file),
                                                                     entries, {{"format", "pt"}}));
  missing_bytes_ = shard.size_bytes;
  return absl::OkStatus();
}

absl::Status HfWriter::EndShard() {
  MOE_ASSIGN_OR_RETURN(const auto result, writer_->Finish());
  written_.push_back(
      {.path = shards_[shard_].file, .size_bytes = result.size_bytes, .crc32c = result.crc32c});
  writer_.reset();
  ++shard_;
  return absl::OkStatus();
}

absl::Status HfWriter::Append(const uint8_t* bytes, uint64_t size) {
  while (size > 0) {
    if (writer_ == nullptr) {
      if (shard_ == shards_.size()) {
        return Internal("{}: {} bytes more than its tensors have", folder_, size);
      }
      MOE_RETURN_IF_ERROR(BeginShard());
    }
    const uint64_t piece = std::min(size, missing_bytes_);
    MOE_RETURN_IF_ERROR(writer_->Append(bytes, piece));
    bytes += piece;
    size -= piece;
    missing_bytes_ -= piece;
    if (missing_bytes_ == 0) MOE_RETURN_IF_ERROR(EndShard());
  }
  return absl::OkStatus();
}

absl::Status HfWriter::WriteIndex() const {
  Json weight_map = Json::object();
  uint64_t total_bytes = 0;
  for (const Shard& shard : shards_) {
    total_bytes += shard.size_bytes;
    for (size_t i = shard.first; i < shard.end; ++i) weight_map[tensors_[i].name] = shard.file;
  }
  const Json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", weight_map}};
  return WriteFileAtomically(JoinPath(folder_, artefacts::kHfIndexFile), index.dump(2) + "\n");
}

absl::StatusOr<std::vector<artefacts::ManifestFile>> HfWriter::Finish() {
  if (shard_ != shards_.size()) {
    return Internal("{}: finished in file {} of {}", folder_, shard_ + 1, shards_.size());
  }
  if (shards_.size() > 1) MOE_RETURN_IF_ERROR(WriteIndex());
  return std::move(written_);
}

}  // namespace moe::model
