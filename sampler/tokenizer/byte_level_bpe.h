// Byte-level BPE as a tokenizer.json describes it: GPT-2, LLaMA-3, SmolLM2, ...
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "sampler/tokenizer/tokenizer.h"

namespace moe::sampler {

// Reads "tokenizer.json" and, for the special tokens' roles, "tokenizer_config.json". Supported:
// model BPE; no normalizer; pre-tokenizer ByteLevel, or a Sequence of Digits and Split steps that
// ends with ByteLevel; added tokens matched exactly. INVALID_ARGUMENT names anything else.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeByteLevelBpe(TokenizerFiles files);

}  // namespace moe::sampler
