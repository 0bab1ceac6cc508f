// The tokenizer inside a GGUF file, as Hugging Face files.
#pragma once

#include "absl/status/statusor.h"
#include "sampler/tokenizer/tokenizer_files.h"
#include "storage/artefacts/gguf.h"

namespace moe::sampler {

// tokenizer.ggml.model "gpt2" (byte-level BPE) becomes tokenizer.json, with the pre-tokenizer that
// tokenizer.ggml.pre stands for; "llama" (SentencePiece) becomes tokenizer.model. INVALID_ARGUMENT
// names the key and the known values where it is something else.
absl::StatusOr<TokenizerFiles> TokenizerFilesFromGguf(const artefacts::GgufFile& gguf);

}  // namespace moe::sampler
