// Exact duplicates among documents.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"

namespace moe::sampler {

// Remembers 128 bits of each text (XXH3): among 10^9 documents a false match has a chance of
// 10^-21. Not thread-safe.
class SeenTexts {
 public:
  // Whether `text` is new; it no longer is afterwards.
  bool Insert(const std::string& text);

 private:
  absl::flat_hash_set<std::pair<uint64_t, uint64_t>> hashes_;
};

}  // namespace moe::sampler
