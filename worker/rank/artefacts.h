// Reading input artefacts with their checksums, and handing in what a job made.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/json.h"
#include "common/run_channel.h"
#include "storage/artefacts/model_config.h"
#include "storage/artefacts/safetensors.h"
#include "worker/model/native_export.h"
#include "worker/model/weights.h"
#include "worker/rank/run_spec.h"

namespace moe::rank {

// Where `input` is an artefact: that its manifest and all of its files have the CRC-32C that the
// catalogue and the manifest say. DATA_LOSS names the file. OK for a path.
absl::Status VerifyInput(const Input& input);

// VerifyInput, then LoadModel.
absl::StatusOr<model::LoadedModel> LoadVerifiedModel(const Input& input);

// "the dataset corpus:1 was tokenised for a vocabulary of 32000, the model has 49152: ..."
absl::Status CheckVocabulary(const std::string& dataset, int64_t dataset_vocab_size,
                             const std::string& model, int64_t model_vocab_size);

// Writes a model artefact into `output.dir`: Hugging Face folder and tokenizer, read back and
// compared bit for bit. Returns the metadata for its manifest. UNAVAILABLE where the storage does
// not give back what was written.
absl::StatusOr<Json> WriteModelFiles(const artefacts::ModelConfig& config,
                                     const at::Tensor& parameters, artefacts::DType dtype,
                                     const std::string& tokenizer_path, const Output& output);

// The same for a model of another program's architecture.
absl::StatusOr<Json> WriteNativeModelFiles(const model::NativeModel& model, artefacts::DType dtype,
                                           const std::string& tokenizer_path, const Output& output);

// Writes the manifest, which makes `run.output.dir` an artefact, reports it and waits until the
// coordinator has catalogued it. CANCELLED where a stop was requested meanwhile. `write_seconds` is
// how long writing took so far.
absl::Status HandIn(RunChannel& channel, const RunSpec& run, const Json& metadata,
                    double write_seconds);

}  // namespace moe::rank
