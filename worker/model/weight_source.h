// A model's weights, one parameter at a time, as they are stored.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "storage/artefacts/model_config.h"
#include "storage/artefacts/safetensors.h"
#include "worker/model/parameters.h"
#include "worker/model/state_files.h"

namespace moe::model {

// What can be read without holding the model: a 7B checkpoint takes as much memory as the parameter
// that was asked for. Not thread-safe.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // Of what Read gives: the widest type among the file's tensors; F32 for quantised files and
  // checkpoints.
  artefacts::DType dtype() const { return dtype_; }
  const artefacts::ModelConfig& config() const { return config_; }
  const ParameterLayout& layout() const { return layout_; }
  // A GGUF file, or a folder: for sampler's ReadTokenizerFiles.
  const std::string& tokenizer_path() const { return tokenizer_path_; }

  // A hint that Read is called for this one soon: starts reading from the disk.
  virtual void WillRead(const Parameter& parameter) const {}
  // Writes the values of a parameter of layout(), row-major as dtype(), to `out`.
  virtual void Read(const Parameter& parameter, uint8_t* out) const = 0;
  // As fp32: decoded.
  void ReadFloats(const Parameter& parameter, float* out) const;

 protected:
  WeightSource(const artefacts::ModelConfig& config, artefacts::DType dtype,
               std::string tokenizer_path);

 private:
  const artefacts::ModelConfig config_;
  const ParameterLayout layout_;
  const artefacts::DType dtype_;
  const std::string tokenizer_path_;
};

// Opens what is at `path`: a GGUF file, a Hugging Face folder (model.safetensors, or shards with an
// index; F32, F16, BF16) or one of our checkpoints (docs/formats/checkpoint.md). Files are mapped;
// nothing but headers is read yet.
//
// NOT_FOUND where there is nothing; INVALID_ARGUMENT or DATA_LOSS naming file, tensor, what was
// found and what the config asks for: a missing, extra, repeated or wrongly shaped tensor, a type
// that holds no weights, a checkpoint whose pieces do not cover the arena once.
//
// Of a checkpoint whose run kept a moving average of the weights, kAverage reads that instead;
// INVALID_ARGUMENT for anything else.
absl::StatusOr<std::unique_ptr<WeightSource>> OpenWeights(
    const std::string& path, WhichWeights which = WhichWeights::kLatest);

// A model in memory: fp32 [P] of `config`, which it keeps a reference to.
std::unique_ptr<WeightSource> ArenaWeights(const artefacts::ModelConfig& config,
                                           const at::Tensor& parameters);

}  // namespace moe::model
