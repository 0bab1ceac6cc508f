#include "worker/model/weights.h"

#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "common/file.h"
#include "common/status.h"
#include "storage/artefacts/gguf_llama.h"
#include "storage/artefacts/hf_folder.h"
#include "worker/model/float_codec.h"
#include "worker/model/hf_names.h"
#include "worker/model/parameters.h"
#include "worker/model/state_files.h"

namespace moe::model {
namespace {

using artefacts::DType;

std::string ShapeText(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

LoadedModel EmptyModel(const artefacts::ModelConfig& config, const std::string& tokenizer_path) {
  LoadedModel model;
  model.config = config;
  model.parameters = at::zeros({ParameterLayout(config).arena_numel()}, at::kFloat);
  model.tokenizer_path = tokenizer_path;
  return model;
}

absl::StatusOr<LoadedModel> LoadGguf(const std::string& path) {
  MOE_ASSIGN_OR_RETURN(const artefacts::GgufLlama file, artefacts::GgufLlama::Open(path));
  LoadedModel model = EmptyModel(file.config(), path);
  float* arena = model.parameters.mutable_data_ptr<float>();
  for (const HfTensor& tensor : HfTensors(file.config(), ParameterLayout(file.config()))) {
    file.Read(tensor.name, arena + tensor.offset);
  }
  return model;
}

// The narrowest type that holds both.
DType Wider(DType a, DType b) { return a == b ? a : DType::kF32; }

absl::StatusOr<LoadedModel> LoadHfFolder(const std::string& folder,
                                         const artefacts::ModelConfig& config) {
  MOE_ASSIGN_OR_RETURN(const artefacts::HfFolder files, artefacts::HfFolder::Open(folder));
  const std::vector<HfTensor> wanted = HfTensors(config, ParameterLayout(config));

  // Everything is checked before the arena is allocated.
  std::map<std::string, const HfTensor*> wanted_by_name;
  for (const HfTensor& tensor : wanted) {
    wanted_by_name[tensor.name] = &tensor;
    if (files.tensors().count(tensor.name) == 0) {
      return InvalidArgument("{}: tensor {} {} is missing; config.json asks for it", folder,
                             tensor.name, ShapeText(tensor.shape));
    }
  }
  for (const auto& [name, entry] : files.tensors()) {
    const auto it = wanted_by_name.find(name);
    if (it == wanted_by_name.end()) {
      if (IsRedundantHfTensor(config, name)) continue;
      return InvalidArgument("{}: tensor {} {} is not part of the model that config.json describes",
                             entry.path, name, ShapeText(entry.info->shape));
    }
    if (entry.info->shape != it->second->shape) {
      return InvalidArgument("{}: tensor {} has shape {}, config.json asks for {}", entry.path,
                             name, ShapeText(entry.info->shape), ShapeText(it->second->shape));
    }
    if (!IsFloat(entry.info->dtype)) {
      return InvalidArgument("{}: tensor {} has type {}; weights must be F32, F16 or BF16",
                             entry.path, name, artefacts::DTypeName(entry.info->dtype));
    }
  }

  LoadedModel model = EmptyModel(config, folder);
  float* arena = model.parameters.mutable_data_ptr<float>();
  model.stored_dtype = files.tensors().at(wanted.front().name).info->dtype;
  for (const HfTensor& tensor : wanted) {
    const artefacts::HfFolder::Entry& entry = files.tensors().at(tensor.name);
    DecodeFloats(entry.info->dtype, entry.data(), tensor.numel, arena + tensor.offset);
    model.stored_dtype = Wider(model.stored_dtype, entry.info->dtype);
  }
  return model;
}

absl::StatusOr<LoadedModel> LoadCheckpoint(const std::string& folder,
                                           const std::vector<std::string>& state_files,
                                           const artefacts::ModelConfig& config) {
  const int64_t arena_numel = ParameterLayout(config).arena_numel();
  MOE_ASSIGN_OR_RETURN(const StateFiles files, StateFiles::Open(folder, state_files, arena_numel));
  LoadedModel model = EmptyModel(config, folder);
  files.Read("parameters", 0, arena_numel, model.parameters.mutable_data_ptr<float>());
  return model;
}

}  // namespace

absl::StatusOr<LoadedModel> LoadModel(const std::string& path) {
  if (std::error_code error; std::filesystem::is_regular_file(path, error)) return LoadGguf(path);
  MOE_ASSIGN_OR_RETURN(const artefacts::ModelConfig config, artefacts::ReadModelConfig(path));
  MOE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(path));
  std::vector<std::string> state_files;
  std::copy_if(names.begin(), names.end(), std::back_inserter(state_files), IsStateFileName);
  return state_files.empty() ? LoadHfFolder(path, config)
                             : LoadCheckpoint(path, state_files, config);
}

}  // namespace moe::model
