// The SentencePiece library behind plain types: its header and Abseil's both define
// absl::string_view, so no file can include the two.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace moe::sampler {

// Thread-safe. Functions return "" or what went wrong.
class SentencePieceModel {
 public:
  SentencePieceModel();
  ~SentencePieceModel();

  std::string Load(const std::string& serialized);
  std::string Encode(const std::string& text, std::vector<int32_t>& ids) const;
  // `ids` must be in the vocabulary.
  std::string Decode(const std::vector<int32_t>& ids, std::string& text) const;

  int64_t vocab_size() const;
  int32_t bos_id() const;  // -1: none
  int32_t eos_id() const;  // -1: none

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moe::sampler
