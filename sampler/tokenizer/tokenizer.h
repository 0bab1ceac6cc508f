// Text to token ids and back.
//
//   MOE_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, OpenTokenizer("smollm2.gguf"));
//   MOE_ASSIGN_OR_RETURN(std::vector<int32_t> ids, tokenizer->Encode("Hello"));
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sampler/tokenizer/tokenizer_files.h"

namespace moe::sampler {

// What the tokenizer's own settings say.
struct TokenizerSettings {
  int64_t vocab_size = 0;  // one more than the largest id
  int32_t bos_id = -1;     // beginning of sequence; -1: none
  int32_t eos_id = -1;     // end of sequence; -1: none
  bool add_bos = false;    // whether text for the model begins with bos_id
};

// Immutable and thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // The ids that the reference implementation (Hugging Face tokenizers, SentencePiece) gives, by
  // themselves: no beginning-of-sequence token. The name of a special token in the text becomes
  // that token, as in the reference. Bytes that are not UTF-8 count as U+FFFD (sampler/utf8.h), and
  // bytes for which the vocabulary has no token are left out, as in the reference. Takes
  // O(n log n), whatever the text. RESOURCE_EXHAUSTED where a regular expression of the tokenizer
  // backtracks without end.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(const std::string& text) const = 0;

  // The bytes that the ids stand for, special tokens by name; not necessarily UTF-8 where ids were
  // cut in the middle of a character. Ids outside the vocabulary give nothing.
  virtual std::string Decode(std::span<const int32_t> ids) const = 0;

  const TokenizerSettings& settings() const { return settings_; }
  int64_t vocab_size() const { return settings_.vocab_size; }
  // What to carry along with a model or a dataset that this tokenizer belongs to.
  const TokenizerFiles& files() const { return files_; }

 protected:
  Tokenizer(TokenizerSettings settings, TokenizerFiles files)
      : settings_(settings), files_(std::move(files)) {}

 private:
  const TokenizerSettings settings_;
  const TokenizerFiles files_;
};

// INVALID_ARGUMENT names what the tokenizer asks for that is not supported, and what to pass
// instead.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(TokenizerFiles files);
// Of whatever is at `path`: see ReadTokenizerFiles.
absl::StatusOr<std::unique_ptr<Tokenizer>> OpenTokenizer(const std::string& path);

}  // namespace moe::sampler
