// The weights of a Hugging Face folder, written as they come.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/artefacts/manifest.h"
#include "storage/artefacts/safetensors.h"
#include "worker/model/hf_names.h"

namespace moe::model {

// Above this many bytes of weights a model is saved in shards.
inline constexpr uint64_t kMaxShardBytes = 5'000'000'000;

// Writes model.safetensors, or shards of at most `max_shard_bytes` (at least one tensor each) and
// their index, into a folder that exists. Each file is synced when the next begins; an unfinished
// one is removed. Holds no weights but the piece it is given.
class HfWriter {
 public:
  HfWriter(std::vector<HfTensor> tensors, artefacts::DType dtype, std::string folder,
           uint64_t max_shard_bytes = kMaxShardBytes);
  ~HfWriter();

  // Appends bytes of the tensors, in their order, each as `dtype`; any piece size. INTERNAL for
  // more than all tensors have.
  absl::Status Append(const uint8_t* bytes, uint64_t size);
  // All files of weights. INTERNAL where tensors are missing.
  absl::StatusOr<std::vector<artefacts::ManifestFile>> Finish();

 private:
  struct Shard {
    std::string file;
    size_t first = 0, end = 0;  // of tensors_
    uint64_t size_bytes = 0;    // of the tensors
  };

  void CutIntoShards(uint64_t max_shard_bytes);
  uint64_t SizeBytes(const HfTensor& tensor) const;
  absl::Status BeginShard();
  absl::Status EndShard();
  absl::Status WriteIndex() const;

  const std::vector<HfTensor> tensors_;
  const artefacts::DType dtype_;
  const std::string folder_;
  std::vector<Shard> shards_;
  size_t shard_ = 0;  // of shards_: the one that is written, or the next
  uint64_t missing_bytes_ = 0;
  std::unique_ptr<artefacts::SafetensorsWriter> writer_;
  std::vector<artefacts::ManifestFile> written_;
};

}  // namespace moe::model
