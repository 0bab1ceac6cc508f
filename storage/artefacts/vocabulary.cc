#include "storage/artefacts/vocabulary.h"

#include "common/file.h"
#include "common/status.h"

namespace moe::artefacts {
namespace {

std::string Describe(const Vocabulary& vocabulary) {
  if (!vocabulary.tokenizer_crc32c.has_value()) {
    return fmt::format("{} tokens", vocabulary.size);
  }
  return fmt::format("{} tokens (tokenizer {:08x})", vocabulary.size, *vocabulary.tokenizer_crc32c);
}

}  // namespace

absl::Status CheckVocabulary(const std::string& dataset_name, const Vocabulary& dataset,
                             const std::string& model_name, const Vocabulary& model) {
  const bool both_known =
      dataset.tokenizer_crc32c.has_value() && model.tokenizer_crc32c.has_value();
  const bool fits = both_known ? *dataset.tokenizer_crc32c == *model.tokenizer_crc32c &&
                                     dataset.size <= model.size
                               : dataset.size == model.size;
  if (fits) return absl::OkStatus();
  return InvalidArgument(
      "{} was made with a vocabulary of {}, and {} has one of {}; prepare the dataset with the "
      "model's own tokenizer",
      dataset_name, Describe(dataset), model_name, Describe(model));
}

std::optional<std::string> TokenizerFileIn(const std::string& folder) {
  for (const char* name : {"tokenizer.model", "tokenizer.json"}) {
    if (FileExists(JoinPath(folder, name))) return name;
  }
  return std::nullopt;
}

}  // namespace moe::artefacts
