#include "coordinator/files_facts.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <system_error>

#include "common/crc32c.h"
#include "common/file.h"
#include "common/status.h"
#include "storage/artefacts/hf_folder.h"
#include "storage/artefacts/model_config.h"
#include "storage/artefacts/vocabulary.h"

namespace moe::coordinator {

namespace fs = std::filesystem;

namespace {

absl::StatusOr<ModelFacts> ReadModelAt(const std::string& path) {
  MOE_ASSIGN_OR_RETURN(const artefacts::ModelConfig config, artefacts::ReadModelConfig(path));
  // Opening maps the files and checks their headers: a truncated download is refused here and not
  // minutes later by a rank. A checkpoint of ours was checked when it was committed.
  if (fs::is_directory(path) && !FileExists(JoinPath(path, "manifest.json"))) {
    MOE_RETURN_IF_ERROR(artefacts::HfFolder::Open(path).status());
  }
  ModelFacts facts;
  facts.vocab_size = config.vocab_size;
  facts.intermediate_size = config.intermediate_size;
  facts.context_length = config.context_length;
  facts.num_experts = config.moe.num_experts;
  facts.shape = config;
  facts.num_layers = config.num_layers;
  if (fs::is_directory(path)) {
    if (const auto name = artefacts::TokenizerFileIn(path)) {
      MOE_ASSIGN_OR_RETURN(const std::string tokenizer, ReadFile(JoinPath(path, *name)));
      facts.tokenizer_crc32c = Crc32c(tokenizer.data(), tokenizer.size());
    }
  }
  return facts;
}

}  // namespace

absl::StatusOr<ModelFacts> FilesFacts::ReadModel(const std::string& path) const {
  MOE_RETURN_IF_ERROR(known_.roots->Check(path));
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return known_.models->Get(path, std::chrono::nanoseconds(now).count(), ReadModelAt);
}

bool FilesFacts::HoldsModel(const std::string& path) const {
  if (!known_.roots->Check(path).ok()) return false;  // CheckReadable says why
  return path.ends_with(".gguf") || FileExists(JoinPath(path, "config.json"));
}

absl::Status FilesFacts::CheckReadable(const std::string& path, bool* is_empty) const {
  *is_empty = false;
  MOE_RETURN_IF_ERROR(known_.roots->Check(path));
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) {
    return NotFound(
        "{} does not exist on the coordinator; give a path that the coordinator and all "
        "workers see",
        path);
  }
  if (::access(path.c_str(), R_OK) != 0) return ErrnoStatus(errno, "cannot read " + path);
  if (!fs::is_directory(status)) {
    *is_empty = fs::is_regular_file(status) && fs::file_size(path, error) == 0;
    return absl::OkStatus();
  }
  // Looks until the first file with content.
  for (fs::recursive_directory_iterator it(path, fs::directory_options::skip_permission_denied,
                                           error);
       !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    std::error_code ignored;
    if (it->is_regular_file(ignored) && it->file_size(ignored) > 0) return absl::OkStatus();
  }
  if (error) {
    return PermissionDenied("cannot look into {}: {}", path, error.message());
  }
  *is_empty = true;
  return absl::OkStatus();
}

const v1::Artefact* FilesFacts::FindArtefact(const std::string& reference) const {
  const auto it = known_.artefacts.find(reference);
  return it == known_.artefacts.end() ? nullptr : &it->second;
}

}  // namespace moe::coordinator
