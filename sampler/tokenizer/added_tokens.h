// Finds the tokens that are matched in the text before anything else: "<|endoftext|>".
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moe::sampler {

// Immutable and thread-safe.
class AddedTokens {
 public:
  struct Match {
    size_t begin = 0;
    size_t size = 0;
    int32_t id = 0;
  };

  AddedTokens() = default;
  explicit AddedTokens(std::vector<std::pair<std::string, int32_t>> tokens);

  // The first occurrence of any token in text[begin ..), the longest of those that begin there.
  // size 0: none.
  Match Find(std::string_view text, size_t begin) const;

 private:
  // By first byte, longest first.
  std::array<std::vector<std::pair<std::string, int32_t>>, 256> by_first_byte_;
  std::array<bool, 256> is_first_byte_{};
};

}  // namespace moe::sampler
