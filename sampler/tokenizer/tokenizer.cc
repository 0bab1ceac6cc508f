#include "sampler/tokenizer/tokenizer.h"

#include "common/status.h"
#include "sampler/tokenizer/byte_level_bpe.h"
#include "sampler/tokenizer/sentencepiece_tokenizer.h"

namespace moe::sampler {

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(TokenizerFiles files) {
  return files.is_sentencepiece() ? MakeSentencePiece(std::move(files))
                                  : MakeByteLevelBpe(std::move(files));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> OpenTokenizer(const std::string& path) {
  MOE_ASSIGN_OR_RETURN(TokenizerFiles files, ReadTokenizerFiles(path));
  return MakeTokenizer(std::move(files));
}

}  // namespace moe::sampler
