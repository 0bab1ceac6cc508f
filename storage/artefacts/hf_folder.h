// The safetensors files of a Hugging Face folder, seen as one set of tensors.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/artefacts/safetensors.h"

namespace moe::artefacts {

inline constexpr char kHfWeightsFile[] = "model.safetensors";
inline constexpr char kHfIndexFile[] = "model.safetensors.index.json";

class HfFolder {
 public:
  struct Entry {
    const SafetensorsFile* file = nullptr;
    const TensorInfo* info = nullptr;
    std::string path;  // of the file
    const uint8_t* data() const { return file->data(*info); }
  };

  // Maps model.safetensors, or every shard that the index names. NOT_FOUND where there are no
  // weights; INVALID_ARGUMENT where index and shards contradict each other.
  static absl::StatusOr<HfFolder> Open(const std::string& folder);

  // By name; valid as long as this object lives.
  const std::map<std::string, Entry>& tensors() const { return tensors_; }
  const std::string& folder() const { return folder_; }

 private:
  absl::Status AddFile(const std::string& path);
  absl::Status AddShards(const std::string& index_path);

  std::string folder_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Entry> tensors_;
};

}  // namespace moe::artefacts
