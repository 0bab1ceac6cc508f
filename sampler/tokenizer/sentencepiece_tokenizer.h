// SentencePiece models (LLaMA-1, LLaMA-2, Mistral): those of that kind by our own code
// (sentencepiece_bpe.h), the others through the library.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "sampler/tokenizer/tokenizer.h"

namespace moe::sampler {

// Reads "tokenizer.model", and "add_bos_token" of "tokenizer_config.json" where there is one; by
// default a model that has a beginning-of-sequence token adds it, as LLaMA's does.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeSentencePiece(TokenizerFiles files);

}  // namespace moe::sampler
