#include "sampler/tokenizer/bpe_merger.h"

#include <algorithm>
#include <functional>
#include <tuple>

#include "common/status.h"

namespace moe::sampler {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

}  // namespace

absl::StatusOr<BpeMerger> BpeMerger::Create(const Options& options) {
  BpeMerger merger;
  absl::flat_hash_map<std::string, int32_t> ids;
  std::fill(std::begin(merger.byte_ids_), std::end(merger.byte_ids_), -1);
  for (const auto& [token, id] : options.vocabulary) {
    ids[token] = id;
    if (token.size() == 1) merger.byte_ids_[static_cast<unsigned char>(token[0])] = id;
  }
  merger.unknown_id_ = options.unknown_id;
  merger.fuse_unknown_ = options.fuse_unknown;
  merger.merges_.reserve(options.merges.size());
  for (size_t rank = 0; rank < options.merges.size(); ++rank) {
    const auto& [left, right] = options.merges[rank];
    const auto left_id = ids.find(left), right_id = ids.find(right);
    const auto merged_id = ids.find(left + right);
    if (left_id == ids.end() || right_id == ids.end() || merged_id == ids.end()) {
      return InvalidArgument(
          "merge {} ('{}' and '{}'): both and what they make must be in the vocabulary", rank, left,
          right);
    }
    // Of two merges of the same pair the reference keeps the later.
    merger.merges_[PairKey(left_id->second, right_id->second)] = {static_cast<int32_t>(rank),
                                                                  merged_id->second};
  }
  std::vector<int32_t> encoded;
  for (const auto& [token, id] : options.vocabulary) {
    encoded.clear();
    if (!options.ignore_merges) merger.MergeBytes(token, encoded);
    if (options.ignore_merges || (encoded.size() == 1 && encoded[0] == id)) {
      merger.single_tokens_.emplace(token, id);
    }
  }
  return merger;
}

const BpeMerger::Merge* BpeMerger::FindMerge(int32_t left, int32_t right) const {
  const auto it = merges_.find(PairKey(left, right));
  return it == merges_.end() ? nullptr : &it->second;
}

void BpeMerger::Encode(std::string_view word, std::vector<int32_t>& ids) const {
  const auto it = single_tokens_.find(absl::string_view(word.data(), word.size()));
  if (it != single_tokens_.end()) {
    ids.push_back(it->second);
  } else {
    MergeBytes(word, ids);
  }
}

// Joins the pair of lowest rank, the leftmost of equals, until there is none. Symbols are a linked
// list in an array; the heap holds candidates, and one whose symbols have changed since is passed
// over when it comes up.
void BpeMerger::MergeBytes(std::string_view word, std::vector<int32_t>& ids) const {
  struct Symbol {
    int32_t id;
    int32_t previous, next;  // -1: none
    bool merged_away;
  };
  struct Candidate {
    int32_t rank;
    int32_t left;  // index of a symbol; its right neighbour is the other
    int32_t id;    // of the result
    bool operator>(const Candidate& other) const {
      return std::tie(rank, left) > std::tie(other.rank, other.left);
    }
  };
  // Kept between words: a word is a dozen bytes, and allocating would cost more than merging.
  thread_local std::vector<Symbol> symbols;
  thread_local std::vector<Candidate> heap;
  symbols.clear();
  heap.clear();

  bool after_unknown = false;
  for (const char byte : word) {
    int32_t id = byte_ids_[static_cast<unsigned char>(byte)];
    const bool unknown = id < 0;
    if (unknown && (unknown_id_ < 0 || (fuse_unknown_ && after_unknown))) continue;
    if (unknown) id = unknown_id_;
    after_unknown = unknown;
    const int32_t index = static_cast<int32_t>(symbols.size());
    symbols.push_back({id, index - 1, index + 1, false});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;

  const auto consider = [&](int32_t left, int32_t right) {
    if (const Merge* merge = FindMerge(symbols[static_cast<size_t>(left)].id,
                                       symbols[static_cast<size_t>(right)].id)) {
      heap.push_back({merge->rank, left, merge->id});
      std::push_heap(heap.begin(), heap.end(), std::greater<>());
    }
  };
  for (int32_t i = 0; i + 1 < static_cast<int32_t>(symbols.size()); ++i) consider(i, i + 1);
  while (!heap.empty()) {
    const Candidate best = heap.front();
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    heap.pop_back();
    Symbol& left = symbols[static_cast<size_t>(best.left)];
    if (left.merged_away || left.next < 0) continue;
    Symbol& right = symbols[static_cast<size_t>(left.next)];
    const Merge* merge = FindMerge(left.id, right.id);
    if (merge == nullptr || merge->id != best.id) continue;
    left.id = best.id;
    left.next = right.next;
    right.merged_away = true;
    if (left.next >= 0) {
      symbols[static_cast<size_t>(left.next)].previous = best.left;
      consider(best.left, left.next);
    }
    if (left.previous >= 0) consider(left.previous, best.left);
  }
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
    ids.push_back(symbols[static_cast<size_t>(i)].id);
  }
}

}  // namespace moe::sampler
