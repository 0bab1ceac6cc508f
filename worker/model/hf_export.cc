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

absl::Status SaveConfig(const Json& config, const std::string& folder) {
  MOE_RETURN_IF_ERROR(WriteFileAtomically(JoinPath(folder, "config.json"), PrettyJson(config)));
  return WriteFileAtomically(JoinPath(folder, "generation_config.json"),
                             PrettyJson(GenerationConfig(config)));
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

absl::Status SaveFolder(const Json& config, const std::vector<HfTensor>& tensors,
                        const at::Tensor& values, artefacts::DType dtype, const std::string& folder,
                        uint64_t max_shard_bytes) {
  HfWriter writer(tensors, dtype, folder, max_shard_bytes);
  std::vector<uint8_t> buffer;
  for (const HfTensor& tensor : tensors) {
    MOE_RETURN_IF_ERROR(Encode(tensor, values, dtype, buffer));
    MOE_RETURN_IF_ERROR(writer.Append(buffer.data(), buffer.size()));
  }
  MOE_RETURN_IF_ERROR(writer.Finish().status());
  return SaveConfig(config, folder);
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

absl::Status SaveHfConfig(const artefacts::ModelConfig& config, artefacts::DType dtype,
                          const std::string& folder) {
  return SaveConfig(artefacts::ToHfConfig(config, TorchDtype(dtype)), folder);
}

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
