// "Did you mean": the nearest known word.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace moe {

// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`, bytewise.
size_t EditDistance(const std::string& a, const std::string& b);

// The candidate nearest to `word`, if it is near enough to be a typing error (a third of the
// longer word's letters, at least one) or one begins with the other; else empty. The first of
// equals.
std::string Nearest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace moe
