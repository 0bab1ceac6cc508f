// Exact duplicates among documents.
#pragma once

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_set.h"

namespace moe::sampler {

// 128 bits of a text (XXH3): among 10^9 documents two that differ share them with a chance of
// 10^-21.
struct TextHash {
  uint64_t low = 0, high = 0;

  bool operator==(const TextHash&) const = default;
  template <typename H>
  friend H AbslHashValue(H state, const TextHash& hash) {
    return H::combine(std::move(state), hash.low, hash.high);
  }
};
TextHash HashOf(const std::string& text);

// The texts so far. Not thread-safe.
class SeenTexts {
 public:
  // Whether the text is new; it no longer is afterwards.
  bool Insert(const TextHash& text) { return hashes_.insert(text).second; }

 private:
  absl::flat_hash_set<TextHash> hashes_;
};

}  // namespace moe::sampler
