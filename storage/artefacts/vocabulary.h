// The vocabulary of a dataset or a model, as artefacts state it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"

namespace moe::artefacts {

struct Vocabulary {
  int64_t size = 0;  // tokens; of a model: rows of its embedding, which may be padded
  // CRC-32C of tokenizer.model or tokenizer.json; absent where it is not known.
  std::optional<uint32_t> tokenizer_crc32c;
};

// That the tokens of a dataset are the model's. Where both tokenizers are known they must be the
// same, and the model has at least as many tokens; else the sizes must be equal. INVALID_ARGUMENT
// names both.
absl::Status CheckVocabulary(const std::string& dataset_name, const Vocabulary& dataset,
                             const std::string& model_name, const Vocabulary& model);

// "tokenizer.model" where the folder has one (it is the original), else "tokenizer.json"; nullopt
// where it has neither.
std::optional<std::string> TokenizerFileIn(const std::string& folder);

}  // namespace moe::artefacts
