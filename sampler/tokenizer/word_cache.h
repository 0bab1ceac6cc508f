// What a thread remembers of the words that it has just encoded.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace moe::sampler {

// Direct-mapped, of fixed size: no text can make it grow, and a word pushes at most one other out.
// Most words of a text have been seen before, and one entry is one or two cache lines. Belongs to
// one thread.
class WordCache {
 public:
  static constexpr size_t kMaxBytes = 24;
  static constexpr size_t kMaxIds = 8;

  struct Entry {
    uint64_t owner = 0;  // whose ids these are; 0: nobody's
    uint32_t num_bytes = 0;
    uint32_t num_ids = 0;
    char bytes[kMaxBytes];
    int32_t ids[kMaxIds];
  };

  WordCache() : entries_(kEntries) {}

  // Where `word`, of at most kMaxBytes, is or would be.
  Entry& Slot(std::string_view word) {
    // Multiplies and folds, eight bytes at a time; the high bits of the last product depend on all.
    uint64_t hash = 0xCBF29CE484222325 ^ word.size();
    size_t i = 0;
    for (uint64_t part; i + 8 <= word.size(); i += 8) {
      std::memcpy(&part, word.data() + i, 8);
      hash = (hash ^ part) * kPrime;
      hash ^= hash >> 29;
    }
    for (; i < word.size(); ++i) hash = (hash ^ static_cast<unsigned char>(word[i])) * kPrime;
    return entries_[(hash ^ hash >> 32) * kPrime >> (64 - kBits)];
  }

  static bool Holds(const Entry& entry, uint64_t owner, std::string_view word) {
    return entry.owner == owner && entry.num_bytes == word.size() &&
           std::memcmp(entry.bytes, word.data(), word.size()) == 0;
  }

  // `word` and the ids must fit.
  static void Fill(Entry& entry, uint64_t owner, std::string_view word, const int32_t* ids,
                   size_t num_ids) {
    entry.owner = owner;
    entry.num_bytes = static_cast<uint32_t>(word.size());
    entry.num_ids = static_cast<uint32_t>(num_ids);
    std::memcpy(entry.bytes, word.data(), word.size());
    std::memcpy(entry.ids, ids, num_ids * sizeof(int32_t));
  }

 private:
  static constexpr int kBits = 15;
  static constexpr size_t kEntries = size_t{1} << kBits;  // 2.3 MiB
  static constexpr uint64_t kPrime = 0x9E3779B97F4A7C15;
  std::vector<Entry> entries_;
};

}  // namespace moe::sampler
