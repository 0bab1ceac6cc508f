// Reading input artefacts with their checksums, and handing in what a job made.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/json.h"
#include "common/run_channel.h"
#include "sampler/dataset.h"
#include "storage/artefacts/manifest.h"
#include "storage/artefacts/model_config.h"
#include "storage/artefacts/safetensors.h"
#include "worker/model/hf_writer.h"
#include "worker/model/native_export.h"
#include "worker/model/weights.h"
#include "worker/rank/run_spec.h"

namespace moe::rank {

// Where `input` is an artefact: that its manifest and all of its files have the CRC-32C that the
// catalogue and the manifest say. DATA_LOSS names the file. OK for a path.
absl::Status VerifyInput(const Input& input);

// VerifyInput, then LoadModel.
absl::StatusOr<model::LoadedModel> LoadVerifiedModel(
    const Input& input, model::WhichWeights which = model::WhichWeights::kLatest,
    const model::ExpertShare& share = {});

// Opens a dataset of running text. INVALID_ARGUMENT where it holds conversations.
absl::StatusOr<std::unique_ptr<sampler::Dataset>> OpenRunningText(const Input& input);

// That the dataset was made with the model's tokenizer (storage/artefacts/vocabulary.h), for a
// model with an embedding of `model_vocab_size` rows.
absl::Status CheckVocabulary(const Input& dataset_input, const sampler::Dataset& dataset,
                             const Input& model_input, int64_t model_vocab_size);

// Writes a model artefact into `output.dir`: Hugging Face folder and tokenizer, read back and
// compared bit for bit. Returns the metadata for its manifest. UNAVAILABLE where the storage does
// not give back what was written.
absl::StatusOr<Json> WriteModelFiles(const artefacts::ModelConfig& config,
                                     const at::Tensor& parameters, artefacts::DType dtype,
                                     const std::string& tokenizer_path, const Output& output);

// The same for a model of another program's architecture.
absl::StatusOr<Json> WriteNativeModelFiles(const model::NativeModel& model, artefacts::DType dtype,
                                           const std::string& tokenizer_path, const Output& output);

// A model artefact that is written as it is made.
struct StreamedModel {
  Json metadata;                               // for its manifest
  std::vector<artefacts::ManifestFile> files;  // all of it
};

// Like WriteModelFiles, with the weights that `write` appends, in the order of model::HfTensors:
// no more than one of them is in memory.
absl::StatusOr<StreamedModel> StreamModelFiles(
    const artefacts::ModelConfig& config, artefacts::DType dtype, const std::string& tokenizer_path,
    const Output& output, const std::function<absl::Status(model::HfWriter&)>& write);

// Writes the manifest, which makes `run.output.dir` an artefact, reports it and waits until the
// coordinator has catalogued it. CANCELLED where a stop was requested meanwhile. `write_seconds` is
// how long writing took so far; `files` are those of the folder, empty to have them read.
absl::Status HandIn(RunChannel& channel, const RunSpec& run, const Json& metadata,
                    double write_seconds, std::vector<artefacts::ManifestFile> files = {});

}  // namespace moe::rank
