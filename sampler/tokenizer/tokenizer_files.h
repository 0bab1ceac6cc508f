// A tokenizer as files: what is carried along in datasets, models and checkpoints.
//
// Wherever a tokenizer comes from, it is first brought into the form that Hugging Face libraries
// load, and everything else (sampler/tokenizer/tokenizer.h) reads that form.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace moe::sampler {

struct TokenizerFiles {
  // Content by file name: "tokenizer.json" or "tokenizer.model" (SentencePiece), and
  // "tokenizer_config.json".
  std::map<std::string, std::string> files;
  std::string source;  // the path that they were read from, for messages

  bool is_sentencepiece() const { return files.count("tokenizer.model") > 0; }
  // CRC-32C of tokenizer.json or tokenizer.model: two tokenizers with equal sums are the same.
  uint32_t crc32c() const;
};

// From a GGUF file, a tokenizer.json, a SentencePiece .model, or a folder with one of the last two
// (tokenizer.model where it has both: it is the original). The content of tokenizer.json and
// .model is kept byte by byte. NOT_FOUND, INVALID_ARGUMENT and DATA_LOSS name the file and what to
// pass instead.
absl::StatusOr<TokenizerFiles> ReadTokenizerFiles(const std::string& path);

// Writes the files into `folder`, durably.
absl::Status WriteTokenizerFiles(const TokenizerFiles& tokenizer, const std::string& folder);

}  // namespace moe::sampler
