#include "sampler/tokenizer/added_tokens.h"

#include <algorithm>

namespace moe::sampler {

AddedTokens::AddedTokens(std::vector<std::pair<std::string, int32_t>> tokens) {
  std::stable_sort(tokens.begin(), tokens.end(),
                   [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
  for (auto& token : tokens) {
    if (token.first.empty()) continue;
    const auto first = static_cast<unsigned char>(token.first[0]);
    is_first_byte_[first] = true;
    by_first_byte_[first].push_back(std::move(token));
  }
}

AddedTokens::Match AddedTokens::Find(std::string_view text, size_t begin) const {
  for (size_t i = begin; i < text.size(); ++i) {
    const auto first = static_cast<unsigned char>(text[i]);
    if (!is_first_byte_[first]) continue;
    for (const auto& [token, id] : by_first_byte_[first]) {
      if (text.compare(i, token.size(), token) == 0) return {i, token.size(), id};
    }
  }
  return {text.size(), 0, 0};
}

}  // namespace moe::sampler
