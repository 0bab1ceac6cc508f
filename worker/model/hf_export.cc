#include "worker/model/hf_export.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "common/file.h"
#include "common/json.h"
#include "common/status.h"
#include "storage/artefacts/hf_folder.h"
#include "worker/model/float_codec.h"
#include "worker/model/hf_names.h"

namespace moe::model {
namespace {

const char* TorchDtype(artefacts::DType dtype) {
  switch (dtype) {
    case artefacts::DType::kF16:
      return "float16";
    case artefacts::DType::kBf16:
      return "bfloat16";
    default:
      return "float32";
  }
}

std::string PrettyJson(const Json& json) { return json.dump(2) + "\n"; }

// From a config.json.
Json GenerationConfig(const Json& config) {
  Json json = {{"_from_model_config", true}};
  for (const char* field : {"bos_token_id", "eos_token_id"}) {
    if (!config.at(field).is_null()) json[field] = config.at(field);
  }
  return json;
}

uint64_t SizeBytes(const HfTensor& tensor, artefacts::DType dtype) {
  return static_cast<uint64_t>(tensor.numel) * artefacts::DTypeSize(dtype);
}

// Fills shards in order, each up to `max_bytes` and with at least one tensor.
std::vector<std::vector<HfTensor>> CutIntoShards(const std::vector<HfTensor>& tensors,
                                                 artefacts::DType dtype, uint64_t max_bytes) {
  std::vector<std::vector<HfTensor>> shards;
  uint64_t used = 0;
  for (const HfTensor& tensor : tensors) {
    const uint64_t size = SizeBytes(tensor, dtype);
    if (shards.empty() || used + size > max_bytes) {
      shards.emplace_back();
      used = 0;
    }
    shards.back().push_back(tensor);
    used += size;
  }
  return shards;
}

// `tensor` as `dtype`, in `buffer`.
absl::Status Encode(const HfTensor& tensor, const at::Tensor& parameters, artefacts::DType dtype,
                    std::vector<uint8_t>& buffer) {
  buffer.resize(SizeBytes(tensor, dtype));
  const float* values = parameters.const_data_ptr<float>() + tensor.offset;
  const int64_t overflow = EncodeFloats(dtype, values, tensor.numel, buffer.data());
  if (overflow < 0) return absl::OkStatus();
  return InvalidArgument("{}[{}] = {} is beyond the range of {}; save as bf16 or fp32", tensor.name,
                         overflow, values[overflow], TorchDtype(dtype));
}

absl::Status WriteShard(const std::string& path, const std::vector<HfTensor>& tensors,
                        const at::Tensor& parameters, artefacts::DType dtype) {
  std::vector<artefacts::SafetensorsWriter::Entry> entries;
  for (const HfTensor& tensor : tensors) entries.push_back({tensor.name, dtype, tensor.shape});
  // transformers refuses files that do not say "pt".
  MOE_ASSIGN_OR_RETURN(const auto writer,
                       artefacts::SafetensorsWriter::Create(path, entries, {{"format", "pt"}}));
  std::vector<uint8_t> buffer;
  for (const HfTensor& tensor : tensors) {
    MOE_RETURN_IF_ERROR(Encode(tensor, parameters, dtype, buffer));
    MOE_RETURN_IF_ERROR(writer->Append(buffer.data(), buffer.size()));
  }
  return writer->Finish().status();
}

absl::Status WriteWeights(const std::vector<std::vector<HfTensor>>& shards,
                          const at::Tensor& parameters, artefacts::DType dtype,
                          const std::string& folder) {
  if (shards.size() == 1) {
    return WriteShard(JoinPath(folder, artefacts::kHfWeightsFile), shards[0], parameters, dtype);
  }
  Json weight_map = Json::object();
  uint64_t total_bytes = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    MOE_RETURN_IF_ERROR(WriteShard(JoinPath(folder, file), shards[i], parameters, dtype));
    for (const HfTensor& tensor : shards[i]) {
      weight_map[tensor.name] = file;
      total_bytes += SizeBytes(tensor, dtype);
    }
  }
  const Json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", weight_map}};
  return WriteFileAtomically(JoinPath(folder, artefacts::kHfIndexFile), PrettyJson(index));
}

absl::Status SaveFolder(const Json& config, const std::vector<HfTensor>& tensors,
                        const at::Tensor& values, artefacts::DType dtype, const std::string& folder,
                        uint64_t max_shard_bytes) {
  MOE_RETURN_IF_ERROR(
      WriteWeights(CutIntoShards(tensors, dtype, max_shard_bytes), values, dtype, folder));
  MOE_RETURN_IF_ERROR(WriteFileAtomically(JoinPath(folder, "config.json"), PrettyJson(config)));
  return WriteFileAtomically(JoinPath(folder, "generation_config.json"),
                             PrettyJson(GenerationConfig(config)));
}

// That the folder holds `tensors` and nothing else, bit for bit.
absl::Status CheckTensors(const std::vector<HfTensor>& tensors, const at::Tensor& values,
                          artefacts::DType dtype, const std::string& folder) {
  MOE_ASSIGN_OR_RETURN(const artefacts::HfFolder written, artefacts::HfFolder::Open(folder));
  if (written.tensors().size() != tensors.size()) {
    return DataLoss("{} holds {} tensors, {} were written", folder, written.tensors().size(),
                    tensors.size());
  }
  std::vector<uint8_t> buffer;
  for (const HfTensor& tensor : tensors) {
    const auto it = written.tensors().find(tensor.name);
    if (it == written.tensors().end() || it->second.info->shape != tensor.shape ||
        it->second.info->dtype != dtype) {
      return DataLoss("{}: {} is missing, or has another shape or type than was written", folder,
                      tensor.name);
    }
    MOE_RETURN_IF_ERROR(Encode(tensor, values, dtype, buffer));
    if (std::memcmp(buffer.data(), it->second.data(), buffer.size()) != 0) {
      return DataLoss("{}: {} does not read back as it was written", it->second.path, tensor.name);
    }
  }
  return absl::OkStatus();
}

Json WithDtype(Json config, artefacts::DType dtype) {
  config["torch_dtype"] = TorchDtype(dtype);
  return config;
}

}  // namespace

absl::Status SaveHfFolder(const artefacts::ModelConfig& config, const at::Tensor& parameters,
                          artefacts::DType dtype, const std::string& folder,
                          uint64_t max_shard_bytes) {
  return SaveFolder(artefacts::ToHfConfig(config, TorchDtype(dtype)),
                    HfTensors(config, ParameterLayout(config)), parameters, dtype, folder,
                    max_shard_bytes);
}

absl::Status SaveNativeFolder(const NativeModel& model, artefacts::DType dtype,
                              const std::string& folder, uint64_t max_shard_bytes) {
  return SaveFolder(WithDtype(model.config, dtype), model.tensors, model.values, dtype, folder,
                    max_shard_bytes);
}

absl::Status CheckNativeFolder(const NativeModel& model, artefacts::DType dtype,
                               const std::string& folder) {
  MOE_ASSIGN_OR_RETURN(const Json config, ReadJsonFile(JoinPath(folder, "config.json")));
  if (config != WithDtype(model.config, dtype)) {
    return DataLoss("{}/config.json does not read back as it was written", folder);
  }
  return CheckTensors(model.tensors, model.values, dtype, folder);
}

absl::Status CheckHfFolder(const artefacts::ModelConfig& config, const at::Tensor& parameters,
                           artefacts::DType dtype, const std::string& folder) {
  MOE_ASSIGN_OR_RETURN(const artefacts::ModelConfig read, artefacts::ReadModelConfig(folder));
  const char* torch_dtype = TorchDtype(dtype);
  if (ToHfConfig(read, torch_dtype) != ToHfConfig(config, torch_dtype)) {
    return DataLoss("{}/config.json does not read back as it was written", folder);
  }
  return CheckTensors(HfTensors(config, ParameterLayout(config)), parameters, dtype, folder);
}

}  // namespace moe::model
