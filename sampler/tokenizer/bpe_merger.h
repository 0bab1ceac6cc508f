// The merge loop of byte-pair encoding: one word to token ids.
#pragma once

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
  struct Options {
    std::vector<std::pair<std::string, int32_t>> vocabulary;  // token as bytes, id
    std::vector<std::pair<std::string, std::string>> merges;  // as bytes; first is strongest
    int32_t unknown_id = -1;     // of a byte without a token; -1: it is left out
    bool fuse_unknown = false;   // a run of such bytes is one token
    bool ignore_merges = false;  // a word that is a token is that token, merges or not
  };
  // INVALID_ARGUMENT for a merge of or into something that is no token.
  static absl::StatusOr<BpeMerger> Create(const Options& options);

  // Appends the ids of one word. Most words are one token and cost one look-up; the others
  // O(n log n).
  void Encode(std::string_view word, std::vector<int32_t>& ids) const;

 private:
  struct Merge {
    int32_t rank = 0;
    int32_t id = 0;
  };
  BpeMerger() = default;
  void MergeBytes(std::string_view word, std::vector<int32_t>& ids) const;
  const Merge* FindMerge(int32_t left, int32_t right) const;

  int32_t byte_ids_[256];  // -1: none
  int32_t unknown_id_ = -1;
  bool fuse_unknown_ = false;
  absl::flat_hash_map<uint64_t, Merge> merges_;  // by left id << 32 | right id
  // Every word whose encoding is one token. Complete and immutable, so threads share it without a
  // lock and no text can make it grow.
  absl::flat_hash_map<std::string, int32_t> single_tokens_;
};

}  // namespace moe::sampler
