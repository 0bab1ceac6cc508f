#include "worker/rank/artefacts.h"

#include <algorithm>
#include <utility>

#include "common/file.h"
#include "common/status.h"
#include "sampler/tokenizer/tokenizer_files.h"
#include "storage/artefacts/manifest.h"
#include "storage/artefacts/vocabulary.h"
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

// Adds to `files` those of `folder` that are not there; sorts them by path.
absl::Status DescribeOthers(const std::string& folder,
                            std::vector<artefacts::ManifestFile>& files) {
  MOE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(folder));
  for (const std::string& name : names) {
    if (std::any_of(files.begin(), files.end(),
                    [&](const auto& file) { return file.path == name; })) {
      continue;
    }
    MOE_ASSIGN_OR_RETURN(files.emplace_back(), artefacts::DescribeFile(folder, name));
  }
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a.path < b.path; });
  return absl::OkStatus();
}

}  // namespace

absl::Status VerifyInput(const Input& input) {
  if (!input.manifest_crc32c.has_value()) return absl::OkStatus();
  MOE_ASSIGN_OR_RETURN(const artefacts::Manifest manifest,
                       artefacts::ReadManifest(input.path, &*input.manifest_crc32c));
  return artefacts::VerifyFiles(input.path, manifest);
}

absl::StatusOr<model::LoadedModel> LoadVerifiedModel(const Input& input, model::WhichWeights which,
                                                     const model::ExpertShare& share) {
  MOE_RETURN_IF_ERROR(VerifyInput(input));
  return model::LoadModel(input.path, which, share);
}

absl::StatusOr<std::unique_ptr<sampler::Dataset>> OpenRunningText(const Input& input) {
  MOE_ASSIGN_OR_RETURN(auto dataset, sampler::Dataset::Open(input.path));
  if (!dataset->has_conversations()) return dataset;
  return InvalidArgument(
      "the dataset {} holds conversations and this job needs running text: prepare it without "
      "`conversations`",
      input.display_name());
}

absl::Status CheckVocabulary(const Input& dataset_input, const sampler::Dataset& dataset,
                             const Input& model_input, int64_t model_vocab_size) {
  artefacts::Vocabulary model = {.size = model_vocab_size, .tokenizer_crc32c = {}};
  // A model may come without a tokenizer; then the sizes have to do.
  if (const auto tokenizer = sampler::ReadTokenizerFiles(model_input.path); tokenizer.ok()) {
    model.tokenizer_crc32c = tokenizer->crc32c();
  }
  return artefacts::CheckVocabulary("the dataset " + dataset_input.display_name(),
                                    dataset.vocabulary(), "the model " + model_input.display_name(),
                                    model);
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

absl::StatusOr<StreamedModel> StreamModelFiles(
    const artefacts::ModelConfig& config, artefacts::DType dtype, const std::string& tokenizer_path,
    const Output& output, const std::function<absl::Status(model::HfWriter&)>& write) {
  std::vector<artefacts::ManifestFile> files;
  const auto save = [&]() -> absl::Status {
    model::HfWriter writer(model::HfTensors(config, model::ParameterLayout(config)), dtype,
                           output.dir);
    MOE_RETURN_IF_ERROR(write(writer));
    MOE_ASSIGN_OR_RETURN(files, writer.Finish());
    return model::SaveHfConfig(config, dtype, output.dir);
  };
  const auto check = [&] { return DescribeOthers(output.dir, files); };
  MOE_ASSIGN_OR_RETURN(Json metadata, WriteFolder(tokenizer_path, output, save, check));
  return StreamedModel{.metadata = std::move(metadata), .files = std::move(files)};
}

absl::Status HandIn(RunChannel& channel, const RunSpec& run, const Json& metadata,
                    double write_seconds, std::vector<artefacts::ManifestFile> files) {
  artefacts::Manifest manifest;
  manifest.kind = run.output.kind;
  manifest.name = run.output.name;
  manifest.job_id = run.job_id;
  manifest.attempt = run.attempt;
  manifest.inputs = run.InputNames();
  manifest.metadata = metadata;
  manifest.files = std::move(files);
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
