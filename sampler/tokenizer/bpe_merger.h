// The merge loop of byte-pair encoding: one word to token ids.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"

namespace moe::sampler {

// Thread-safe.
class BpeMerger {
 public:
  struct Rule {
    std::string left, right;  // both tokens, and what they make too
    int32_t rank = 0;         // the lowest comes first, and of equals the leftmost
  };
  struct Options {
    std::vector<std::pair<std::string, int32_t>> vocabulary;  // token as bytes, id
    std::vector<Rule> rules;     // of two for the same pair the later holds
    int32_t unknown_id = -1;     // of a byte without a token; -1: it is left out
    bool fuse_unknown = false;   // a run of such bytes is one token
    bool ignore_merges = false;  // a word that is a token is that token, merges or not
    // A word begins as its UTF-8 characters instead of its bytes; a character that is no token
    // becomes `byte_ids` of its bytes at the end.
    bool by_character = false;
    std::array<int32_t, 256> byte_ids{};
  };

  // INVALID_ARGUMENT for a merge of or into something that is no token.
  static absl::StatusOr<BpeMerger> Create(const Options& options);

  // Appends the ids of one word (by_character: valid UTF-8, below 2 GiB). A word that came before
  // costs one look-up in a cache of the thread; another takes O(n log n).
  void Encode(std::string_view word, std::vector<int32_t>& ids) const;

 private:
  struct Merge {
    int32_t rank = 0;
    int32_t id = 0;
  };
  BpeMerger() = default;
  void EncodeUncached(std::string_view word, std::vector<int32_t>& ids) const;
  void Merged(std::string_view word, std::vector<int32_t>& ids) const;
  void Symbols(std::string_view word, std::vector<int32_t>& symbols) const;
  void MergeFew(std::vector<int32_t>& symbols) const;
  void MergeMany(std::vector<int32_t>& symbols) const;
  const Merge* FindMerge(int32_t left, int32_t right) const;

  uint64_t serial_ = 0;      // tells the words of one merger from those of another
  int32_t symbol_ids_[256];  // of one byte; -1: none
  absl::flat_hash_map<uint32_t, int32_t> character_ids_;  // of several, as Packed()
  int32_t unknown_id_ = -1;
  bool fuse_unknown_ = false;
  bool by_character_ = false;
  std::array<int32_t, 256> byte_ids_{};
  absl::flat_hash_map<uint64_t, Merge> merges_;  // by left id << 32 | right id
  // Every word whose encoding is one token. Complete and immutable, so threads share it without a
  // lock and no text can make it grow.
  absl::flat_hash_map<std::string, int32_t> single_tokens_;
};

}  // namespace moe::sampler
