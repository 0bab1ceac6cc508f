// SentencePiece BPE without the library: the same ids, word by word.
//
// The library merges over a whole text with one queue. Where no piece of the vocabulary contains
// two neighbouring characters, no merge can ever join them, so the text falls apart there into
// words that can be encoded alone, and looked up when they come again.
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sampler/tokenizer/bpe_merger.h"

namespace moe::sampler {

// Immutable and thread-safe.
class SentencePieceBpe {
 public:
  // nullopt where the model is not of the kind that LLaMA's is: BPE with byte fallback, no
  // normalisation, a blank put before the text, no user-defined pieces. The library reads every
  // kind.
  static std::optional<SentencePieceBpe> FromModel(const std::string& serialized);

  // Appends the ids of valid UTF-8.
  void Encode(const std::string& text, std::vector<int32_t>& ids) const;

 private:
  explicit SentencePieceBpe(BpeMerger merger) : merger_(std::move(merger)) {}
  // Whether some piece has these two bytes side by side, the last of a character and the first of
  // the next.
  bool MayJoin(char left, char right) const {
    return joins_[static_cast<size_t>(static_cast<unsigned char>(left)) << 8 |
                  static_cast<unsigned char>(right)];
  }

  BpeMerger merger_;
  std::bitset<65536> joins_;
};

}  // namespace moe::sampler
