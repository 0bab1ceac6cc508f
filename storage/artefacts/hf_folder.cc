#include "storage/artefacts/hf_folder.h"

#include <set>
#include <utility>

#include "common/file.h"
#include "common/json.h"
#include "common/status.h"

namespace moe::artefacts {

absl::StatusOr<HfFolder> HfFolder::Open(const std::string& folder) {
  HfFolder result;
  result.folder_ = folder;
  const std::string index = JoinPath(folder, kHfIndexFile);
  const std::string single = JoinPath(folder, kHfWeightsFile);
  if (FileExists(index)) {
    MOE_RETURN_IF_ERROR(result.AddShards(index));
  } else if (FileExists(single)) {
    MOE_RETURN_IF_ERROR(result.AddFile(single));
  } else {
    return NotFound(
        "{} has no weights: neither {} nor {}; PyTorch .bin files must be saved as safetensors "
        "first",
        folder, kHfWeightsFile, kHfIndexFile);
  }
  return result;
}

absl::Status HfFolder::AddFile(const std::string& path) {
  MOE_ASSIGN_OR_RETURN(SafetensorsFile opened, SafetensorsFile::Open(path));
  files_.push_back(std::make_unique<SafetensorsFile>(std::move(opened)));
  const SafetensorsFile& file = *files_.back();
  for (const TensorInfo& info : file.tensors()) {
    const auto [it, added] = tensors_.insert({info.name, {&file, &info, path}});
    if (!added) {
      return InvalidArgument("tensor {} is in both {} and {}", info.name, it->second.path, path);
    }
  }
  return absl::OkStatus();
}

absl::Status HfFolder::AddShards(const std::string& index_path) {
  MOE_ASSIGN_OR_RETURN(const Json index, ReadJsonFile(index_path));
  JsonReader reader(index, index_path);
  const Json& weight_map = reader.Object("weight_map");
  MOE_RETURN_IF_ERROR(reader.status());

  std::set<std::string> shards;
  for (const auto& [tensor, shard] : weight_map.items()) {
    const std::string name = shard.is_string() ? shard.get<std::string>() : "";
    if (name.empty() || name.find('/') != std::string::npos) {
      return InvalidArgument("{}: weight_map: {}: expected the name of a file beside it, got {}",
                             index_path, tensor, shard.dump());
    }
    shards.insert(name);
  }
  for (const std::string& shard : shards) {
    MOE_RETURN_IF_ERROR(AddFile(JoinPath(folder_, shard)));
  }
  for (const auto& [tensor, shard] : weight_map.items()) {
    const auto it = tensors_.find(tensor);
    const std::string expected = JoinPath(folder_, shard.get<std::string>());
    if (it == tensors_.end() || it->second.path != expected) {
      return InvalidArgument("{} says that {} is in {}, which does not hold it", index_path, tensor,
                             expected);
    }
  }
  return absl::OkStatus();
}

}  // namespace moe::artefacts
