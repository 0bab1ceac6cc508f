#include "worker/model/weight_source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/file.h"
#include "common/status.h"
#include "storage/artefacts/gguf_llama.h"
#include "storage/artefacts/hf_folder.h"
#include "worker/kernels/parallel.h"
#include "worker/model/float_codec.h"
#include "worker/model/hf_names.h"
#include "worker/model/state_files.h"

namespace moe::model {
namespace {

using artefacts::DType;
using artefacts::DTypeSize;
using artefacts::ModelConfig;

std::string ShapeText(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// From a map, where a thread may wait for the disk or for the kernel to map a page.
void CopyMapped(const uint8_t* from, uint64_t size, uint8_t* to) {
  constexpr uint64_t kPiece = uint64_t{4} << 20;
  kernels::ParallelTasks(static_cast<int64_t>((size + kPiece - 1) / kPiece),
                         [=](int64_t, int64_t i) {
                           const uint64_t begin = static_cast<uint64_t>(i) * kPiece;
                           std::memcpy(to + begin, from + begin, std::min(kPiece, size - begin));
                         });
}

// The Hugging Face tensors that each parameter consists of, one after the other.
using PartsByOffset = std::map<int64_t, std::vector<HfTensor>>;

PartsByOffset PartsOf(const ModelConfig& config, const ParameterLayout& layout) {
  PartsByOffset parts;
  const std::vector<HfTensor> tensors = HfTensors(config, layout);
  size_t next = 0;
  for (const Parameter& parameter : layout.parameters()) {
    std::vector<HfTensor>& list = parts[parameter.offset];
    while (next < tensors.size() && tensors[next].offset < parameter.offset + parameter.numel) {
      list.push_back(tensors[next++]);
    }
  }
  MOE_CHECK(next == tensors.size());
  return parts;
}

class GgufWeights final : public WeightSource {
 public:
  GgufWeights(artefacts::GgufLlama file, const std::string& path)
      : WeightSource(file.config(), DType::kF32, path),
        file_(std::move(file)),
        parts_(PartsOf(config(), layout())) {}

  void Read(const Parameter& parameter, uint8_t* out) const override {
    for (const HfTensor& tensor : parts_.at(parameter.offset)) {
      file_.Read(tensor.name, reinterpret_cast<float*>(out));
      out += tensor.numel * static_cast<int64_t>(sizeof(float));
    }
  }

 private:
  const artefacts::GgufLlama file_;
  const PartsByOffset parts_;
};

class HfWeights final : public WeightSource {
 public:
  HfWeights(artefacts::HfFolder files, const ModelConfig& config, DType dtype)
      : WeightSource(config, dtype, files.folder()),
        files_(std::move(files)),
        parts_(PartsOf(config, layout())) {}

  void WillRead(const Parameter& parameter) const override {
    for (const HfTensor& tensor : parts_.at(parameter.offset)) {
      const artefacts::HfFolder::Entry& entry = files_.tensors().at(tensor.name);
      entry.file->WillRead(*entry.info);
    }
  }

  void Read(const Parameter& parameter, uint8_t* out) const override {
    WillRead(parameter);
    for (const HfTensor& tensor : parts_.at(parameter.offset)) {
      const artefacts::HfFolder::Entry& entry = files_.tensors().at(tensor.name);
      if (entry.info->dtype == dtype()) {
        CopyMapped(entry.data(), entry.info->size_bytes, out);
      } else {  // dtype() is F32: the only type wider than another
        DecodeFloats(entry.info->dtype, entry.data(), tensor.numel, reinterpret_cast<float*>(out));
      }
      entry.file->HaveRead(*entry.info);
      out += tensor.numel * static_cast<int64_t>(DTypeSize(dtype()));
    }
  }

 private:
  const artefacts::HfFolder files_;
  const PartsByOffset parts_;
};

class CheckpointWeights final : public WeightSource {
 public:
  CheckpointWeights(StateFiles files, const ModelConfig& config, const std::string& folder,
                    std::string tensor)
      : WeightSource(config, DType::kF32, folder),
        files_(std::move(files)),
        tensor_(std::move(tensor)) {}

  void Read(const Parameter& parameter, uint8_t* out) const override {
    files_.Read(tensor_, parameter.offset, parameter.offset + parameter.numel,
                reinterpret_cast<float*>(out));
  }

 private:
  const StateFiles files_;
  const std::string tensor_;
};

class MemoryWeights final : public WeightSource {
 public:
  MemoryWeights(const ModelConfig& config, const at::Tensor& parameters)
      : WeightSource(config, DType::kF32, ""), parameters_(parameters) {
    MOE_CHECK(parameters.numel() == layout().arena_numel());
  }

  void Read(const Parameter& parameter, uint8_t* out) const override {
    std::memcpy(out, parameters_.const_data_ptr<float>() + parameter.offset,
                static_cast<size_t>(parameter.numel) * sizeof(float));
  }

 private:
  const at::Tensor parameters_;
};

absl::StatusOr<std::unique_ptr<WeightSource>> OpenGguf(const std::string& path) {
  MOE_ASSIGN_OR_RETURN(artefacts::GgufLlama file, artefacts::GgufLlama::Open(path));
  return std::make_unique<GgufWeights>(std::move(file), path);
}

// The narrowest type that holds both.
DType Wider(DType a, DType b) { return a == b ? a : DType::kF32; }

absl::StatusOr<std::unique_ptr<WeightSource>> OpenHfFolder(const std::string& folder,
                                                           const ModelConfig& config) {
  MOE_ASSIGN_OR_RETURN(artefacts::HfFolder files, artefacts::HfFolder::Open(folder));
  const std::vector<HfTensor> wanted = HfTensors(config, ParameterLayout(config));
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
  DType dtype = files.tensors().at(wanted.front().name).info->dtype;
  for (const HfTensor& tensor : wanted) {
    dtype = Wider(dtype, files.tensors().at(tensor.name).info->dtype);
  }
  return std::make_unique<HfWeights>(std::move(files), config, dtype);
}

absl::Status NoAverage(const std::string& path) {
  return InvalidArgument(
      "{} holds no average of weights; train with weight_average, or take the latest ones", path);
}

absl::StatusOr<std::unique_ptr<WeightSource>> OpenCheckpoint(
    const std::string& folder, const std::vector<std::string>& state_files,
    const ModelConfig& config, WhichWeights which) {
  MOE_ASSIGN_OR_RETURN(StateFiles files, StateFiles::Open(folder, state_files,
                                                          ParameterLayout(config).arena_numel()));
  const bool average = which == WhichWeights::kAverage;
  if (average && !files.has_average()) return NoAverage(folder);
  return std::make_unique<CheckpointWeights>(std::move(files), config, folder,
                                             average ? kAverageTensor : "parameters");
}

}  // namespace

WeightSource::WeightSource(const ModelConfig& config, DType dtype, std::string tokenizer_path)
    : config_(config), layout_(config), dtype_(dtype), tokenizer_path_(std::move(tokenizer_path)) {}

void WeightSource::ReadFloats(const Parameter& parameter, float* out) const {
  if (dtype_ == DType::kF32) {
    Read(parameter, reinterpret_cast<uint8_t*>(out));
    return;
  }
  std::vector<uint8_t> bytes(static_cast<size_t>(parameter.numel) * DTypeSize(dtype_));
  Read(parameter, bytes.data());
  DecodeFloats(dtype_, bytes.data(), parameter.numel, out);
}

absl::StatusOr<std::unique_ptr<WeightSource>> OpenWeights(const std::string& path,
                                                          WhichWeights which) {
  const bool latest = which == WhichWeights::kLatest;
  if (std::error_code error; std::filesystem::is_regular_file(path, error)) {
    if (!latest) return NoAverage(path);
    return OpenGguf(path);
  }
  MOE_ASSIGN_OR_RETURN(const ModelConfig config, artefacts::ReadModelConfig(path));
  MOE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(path));
  std::vector<std::string> state_files;
  std::copy_if(names.begin(), names.end(), std::back_inserter(state_files), IsStateFileName);
  if (!state_files.empty()) return OpenCheckpoint(path, state_files, config, which);
  if (!latest) return NoAverage(path);
  return OpenHfFolder(path, config);
}

std::unique_ptr<WeightSource> ArenaWeights(const ModelConfig& config,
                                           const at::Tensor& parameters) {
  return std::make_unique<MemoryWeights>(config, parameters);
}

}  // namespace moe::model
