// What the linear models see of a text (docs/data.md): hashed n-grams of its tokens. Pure.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"

namespace moe::sampler {

// A token is a word (ASCII letters, apostrophes and all bytes of other characters), a run of
// digits, any other mark by itself, or a line break. Words are compared in lower case, numbers by
// how many digits they have.
enum class FeatureSet {
  kWords,     // single tokens and pairs; of the marks only $ % ! ?
  kSkeleton,  // pairs and triples; a word that is not common is only its shape and ending, so that
              // the grammar is seen and not the topic
};

// Which words a skeleton keeps, as their TokenHash.
using CommonWords = absl::flat_hash_set<uint64_t>;
// Of a word in any case.
uint64_t TokenHash(std::string_view word);

// 64 bits for each feature, in the order of the text and as often as it occurs.
std::vector<uint64_t> Features(std::string_view text, FeatureSet set, const CommonWords& common);

// The words of `text`, as TokenHash, in order: what near-duplicates are compared by.
std::vector<uint64_t> Words(std::string_view text);

}  // namespace moe::sampler
