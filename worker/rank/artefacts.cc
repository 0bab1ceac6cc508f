#include "worker/rank/artefacts.h"

#include "common/file.h"
#include "common/status.h"
#include "sampler/tokenizer/tokenizer_files.h"
#include "storage/artefacts/manifest.h"
#include "worker/model/hf_export.h"

namespace moe::rank {
namespace {

// The storage's fault, not the input's: worth another attempt.
absl::Status AsStorageError(const absl::Status& status) {
  return Unavailable("{}", Message(status));
}

std::string ProtoKind(const std::string& kind) {
  if (kind == "model") return "ARTEFACT_KIND_MODEL";
  if (kind == "checkpoint") return "ARTEFACT_KIND_CHECKPOINT";
  return "ARTEFACT_KIND_REPORT";
}

// Tokenizer and whatever `save` writes, then `check`.
template <typename Save, typename Check>
absl::StatusOr<Json> WriteFolder(const std::string& tokenizer_path, const Output& output,
                                 const Save& save, const Check& check) {
  MOE_ASSIGN_OR_RETURN(const sampler::TokenizerFiles tokenizer,
                       sampler::ReadTokenizerFiles(tokenizer_path));
  MOE_RETURN_IF_ERROR(MakeDirectories(output.dir));
  MOE_RETURN_IF_ERROR(save());
  MOE_RETURN_IF_ERROR(sampler::WriteTokenizerFiles(tokenizer, output.dir));
  if (const absl::Status same = check(); !same.ok()) return AsStorageError(same);
  MOE_ASSIGN_OR_RETURN(Json metadata, ReadJsonFile(JoinPath(output.dir, "config.json")));
  metadata["tokenizer_crc32c"] = tokenizer.crc32c();
  return metadata;
}

}  // namespace

absl::Status VerifyInput(const Input& input) {
  if (!input.manifest_crc32c.has_value()) return absl::OkStatus();
  MOE_ASSIGN_OR_RETURN(const artefacts::Manifest manifest,
                       artefacts::ReadManifest(input.path, &*input.manifest_crc32c));
  return artefacts::VerifyFiles(input.path, manifest);
}

absl::StatusOr<model::LoadedModel> LoadVerifiedModel(const Input& input) {
  MOE_RETURN_IF_ERROR(VerifyInput(input));
  return model::LoadModel(input.path);
}

absl::Status CheckVocabulary(const std::string& dataset, int64_t dataset_vocab_size,
                             const std::string& model, int64_t model_vocab_size) {
  if (dataset_vocab_size == model_vocab_size) return absl::OkStatus();
  return InvalidArgument(
      "the dataset {} has a vocabulary of {} tokens and the model {} one of {}: prepare the "
      "dataset "
      "with the model's own tokenizer",
      dataset, dataset_vocab_size, model, model_vocab_size);
}

absl::StatusOr<Json> WriteModelFiles(const artefacts::ModelConfig& config,
                                     const at::Tensor& parameters, artefacts::DType dtype,
                                     const std::string& tokenizer_path, const Output& output) {
  return WriteFolder(
      tokenizer_path, output,
      [&] { return model::SaveHfFolder(config, parameters, dtype, output.dir); },
      [&] { return model::CheckHfFolder(config, parameters, dtype, output.dir); });
}

absl::StatusOr<Json> WriteNativeModelFiles(const model::NativeModel& model, artefacts::DType dtype,
                                           const std::string& tokenizer_path,
                                           const Output& output) {
  return WriteFolder(
      tokenizer_path, output, [&] { return model::SaveNativeFolder(model, dtype, output.dir); },
      [&] { return model::CheckNativeFolder(model, dtype, output.dir); });
}

absl::Status HandIn(RunChannel& channel, const RunSpec& run, const Json& metadata,
                    double write_seconds) {
  artefacts::Manifest manifest;
  manifest.kind = run.output.kind;
  manifest.name = run.output.name;
  manifest.job_id = run.job_id;
  manifest.attempt = run.attempt;
  manifest.inputs = run.InputNames();
  manifest.metadata = metadata;
  MOE_ASSIGN_OR_RETURN(const artefacts::WrittenManifest written,
                       artefacts::WriteManifest(run.output.dir, manifest));
  channel.Report("artefact", {{"name", run.output.name},
                              {"kind", ProtoKind(run.output.kind)},
                              {"path", run.output.dir},
                              {"manifest_crc32c", written.crc32c},
                              {"size_bytes", written.size_bytes},
                              {"metadata", metadata},
                              {"inputs", manifest.inputs},
                              {"write_seconds", write_seconds}});
  return channel.WaitForCommit(run.output.dir);
}

}  // namespace moe::rank
