// Which part of many scored documents is the worst. Pure.
#pragma once

#include <cstdint>
#include <vector>

namespace moe::sampler {

// A document's place in the order of a filter: by badness, and where that is the same by hash and
// then by index, so that every document has a place of its own.
struct Ranked {
  float badness = 0;  // not NaN
  uint32_t hash = 0;
  int64_t index = 0;

  bool operator<(const Ranked& other) const {
    if (badness != other.badness) return badness > other.badness;
    if (hash != other.hash) return hash < other.hash;
    return index < other.index;
  }
};

// The floor(share * n) worst of `documents`, n of them, in no order; reorders them. `share` is 0 to
// 1. Takes O(n).
std::vector<Ranked> TakeWorst(std::vector<Ranked> documents, double share);

}  // namespace moe::sampler
