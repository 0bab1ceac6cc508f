#include "sampler/tokenizer/tokenizer_files.h"

#include <filesystem>
#include <optional>

#include "common/crc32c.h"
#include "common/file.h"
#include "common/status.h"
#include "sampler/tokenizer/gguf_tokenizer_files.h"
#include "storage/artefacts/vocabulary.h"

namespace moe::sampler {
namespace {

constexpr char kJson[] = "tokenizer.json";
constexpr char kModel[] = "tokenizer.model";
constexpr char kConfig[] = "tokenizer_config.json";

// `path` as `name`, and tokenizer_config.json beside it where there is one.
absl::StatusOr<TokenizerFiles> ReadWithConfig(const std::string& path, const std::string& name) {
  TokenizerFiles result;
  result.source = path;
  MOE_ASSIGN_OR_RETURN(result.files[name], ReadFile(path));
  const std::string config = (std::filesystem::path(path).parent_path() / kConfig).string();
  if (FileExists(config)) {
    MOE_ASSIGN_OR_RETURN(result.files[kConfig], ReadFile(config));
  }
  return result;
}

absl::StatusOr<bool> IsGguf(const std::string& path) {
  MOE_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  return file.size() >= 4 && std::string(file.data(), file.data() + 4) == "GGUF";
}

}  // namespace

uint32_t TokenizerFiles::crc32c() const {
  const std::string& content = files.at(is_sentencepiece() ? kModel : kJson);
  return Crc32c(content.data(), content.size());
}

absl::StatusOr<TokenizerFiles> ReadTokenizerFiles(const std::string& path) {
  if (!FileExists(path)) return NotFound("there is no tokenizer at {}", path);
  if (std::filesystem::is_directory(path)) {
    if (const std::optional<std::string> name = artefacts::TokenizerFileIn(path)) {
      return ReadWithConfig(JoinPath(path, *name), *name);
    }
    return NotFound("the folder {} holds neither {} nor {}", path, kModel, kJson);
  }
  MOE_ASSIGN_OR_RETURN(const bool is_gguf, IsGguf(path));
  if (is_gguf) {
    MOE_ASSIGN_OR_RETURN(const artefacts::GgufFile gguf, artefacts::GgufFile::Open(path));
    return TokenizerFilesFromGguf(gguf);
  }
  const std::string extension = std::filesystem::path(path).extension().string();
  if (extension == ".json") return ReadWithConfig(path, kJson);
  if (extension == ".model") return ReadWithConfig(path, kModel);
  return InvalidArgument(
      "{} is no tokenizer: pass a GGUF file, a tokenizer.json, a SentencePiece .model, or a folder "
      "that holds one of the last two",
      path);
}

absl::Status WriteTokenizerFiles(const TokenizerFiles& tokenizer, const std::string& folder) {
  for (const auto& [name, content] : tokenizer.files) {
    MOE_RETURN_IF_ERROR(WriteFileAtomically(JoinPath(folder, name), content));
  }
  return absl::OkStatus();
}

}  // namespace moe::sampler
