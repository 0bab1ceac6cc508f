#include "sampler/tokenizer/bpe_merger.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <limits>
#include <tuple>

#include "common/status.h"
#include "sampler/tokenizer/word_cache.h"
#include "sampler/utf8.h"

namespace moe::sampler {
namespace {

// Up to this length a search of all pairs is faster than a heap.
constexpr size_t kFewSymbols = 48;
constexpr int32_t kNoRank = std::numeric_limits<int32_t>::max();

uint64_t PairKey(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

// A character of up to four bytes as a number.
uint32_t Packed(std::string_view character) {
  uint32_t packed = 0;
  for (const char byte : character) packed = packed << 8 | static_cast<unsigned char>(byte);
  return packed;
}

// Until the end, a character without a token is a symbol that no rule knows: below -1, and where in
// the word it begins.
constexpr int32_t kFirstUnknown = -2;
int32_t UnknownAt(size_t offset) { return kFirstUnknown - static_cast<int32_t>(offset); }
size_t OffsetOfUnknown(int32_t symbol) { return static_cast<size_t>(kFirstUnknown - symbol); }

}  // namespace

absl::StatusOr<BpeMerger> BpeMerger::Create(const Options& options) {
  static std::atomic<uint64_t> last_serial{0};
  BpeMerger merger;
  merger.serial_ = ++last_serial;
  merger.unknown_id_ = options.unknown_id;
  merger.fuse_unknown_ = options.fuse_unknown;
  merger.by_character_ = options.by_character;
  merger.byte_ids_ = options.byte_ids;
  std::fill(std::begin(merger.symbol_ids_), std::end(merger.symbol_ids_), -1);
  absl::flat_hash_map<std::string, int32_t> ids;
  for (const auto& [token, id] : options.vocabulary) {
    ids[token] = id;
    if (token.size() == 1) merger.symbol_ids_[static_cast<unsigned char>(token[0])] = id;
    if (token.size() > 1 && token.size() <= 4 && CharacterBytes(token, 0) == token.size()) {
      merger.character_ids_[Packed(token)] = id;
    }
  }
  merger.merges_.reserve(options.rules.size());
  for (const Rule& rule : options.rules) {
    const auto left_id = ids.find(rule.left), right_id = ids.find(rule.right);
    const auto merged_id = ids.find(rule.left + rule.right);
    if (left_id == ids.end() || right_id == ids.end() || merged_id == ids.end()) {
      return InvalidArgument(
          "merge {} ('{}' and '{}'): both and what they make must be in the vocabulary", rule.rank,
          rule.left, rule.right);
    }
    merger.merges_[PairKey(left_id->second, right_id->second)] = {rule.rank, merged_id->second};
  }
  std::vector<int32_t> encoded;
  for (const auto& [token, id] : options.vocabulary) {
    encoded.clear();
    if (!options.ignore_merges) merger.Merged(token, encoded);
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
  if (word.size() > WordCache::kMaxBytes) return EncodeUncached(word, ids);
  thread_local WordCache cache;
  WordCache::Entry& entry = cache.Slot(word);
  if (WordCache::Holds(entry, serial_, word)) {
    ids.insert(ids.end(), entry.ids, entry.ids + entry.num_ids);
    return;
  }
  const size_t before = ids.size();
  EncodeUncached(word, ids);
  const size_t added = ids.size() - before;
  if (added <= WordCache::kMaxIds) {
    WordCache::Fill(entry, serial_, word, ids.data() + before, added);
  }
}

void BpeMerger::EncodeUncached(std::string_view word, std::vector<int32_t>& ids) const {
  const auto it = single_tokens_.find(absl::string_view(word.data(), word.size()));
  if (it != single_tokens_.end()) {
    ids.push_back(it->second);
  } else {
    Merged(word, ids);
  }
}

void BpeMerger::Merged(std::string_view word, std::vector<int32_t>& ids) const {
  // Kept between words: a word is a dozen bytes, and allocating would cost more than merging.
  thread_local std::vector<int32_t> symbols;
  symbols.clear();
  Symbols(word, symbols);
  symbols.size() <= kFewSymbols ? MergeFew(symbols) : MergeMany(symbols);
  for (const int32_t symbol : symbols) {
    if (symbol > kFirstUnknown) {
      ids.push_back(symbol);
      continue;
    }
    const size_t offset = OffsetOfUnknown(symbol);
    for (size_t i = 0; i < CharacterBytes(word, offset); ++i) {
      ids.push_back(byte_ids_[static_cast<unsigned char>(word[offset + i])]);
    }
  }
}

// What the word begins as.
void BpeMerger::Symbols(std::string_view word, std::vector<int32_t>& symbols) const {
  if (by_character_) {
    for (size_t offset = 0; offset < word.size();) {
      const size_t size = CharacterBytes(word, offset);
      int32_t id = -1;
      if (size == 1) {
        id = symbol_ids_[static_cast<unsigned char>(word[offset])];
      } else if (const auto it = character_ids_.find(Packed(word.substr(offset, size)));
                 it != character_ids_.end()) {
        id = it->second;
      }
      symbols.push_back(id >= 0 ? id : UnknownAt(offset));
      offset += size;
    }
    return;
  }
  bool after_unknown = false;
  for (const char byte : word) {
    int32_t id = symbol_ids_[static_cast<unsigned char>(byte)];
    const bool unknown = id < 0;
    if (unknown && (unknown_id_ < 0 || (fuse_unknown_ && after_unknown))) continue;
    if (unknown) id = unknown_id_;
    after_unknown = unknown;
    symbols.push_back(id);
  }
}

// Joins the pair of lowest rank, the leftmost of equals, until there is none: by looking at every
// pair each time.
void BpeMerger::MergeFew(std::vector<int32_t>& symbols) const {
  Merge merges[kFewSymbols];  // merges[i] joins symbols i and i + 1
  size_t size = symbols.size();
  const auto look_up = [&](size_t i) {
    const Merge* merge = FindMerge(symbols[i], symbols[i + 1]);
    merges[i] = merge != nullptr ? *merge : Merge{kNoRank, 0};
  };
  for (size_t i = 0; i + 1 < size; ++i) look_up(i);
  while (size > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < size; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == kNoRank) break;
    symbols[best] = merges[best].id;
    std::copy(symbols.begin() + best + 2, symbols.begin() + size, symbols.begin() + best + 1);
    std::copy(merges + best + 1, merges + size - 1, merges + best);
    --size;
    if (best > 0) look_up(best - 1);
    if (best + 1 < size) look_up(best);
  }
  symbols.resize(size);
}

// The same for long words, in O(n log n). Symbols are a linked list in an array; the heap holds
// candidates, and one whose symbols have changed since is passed over when it comes up.
void BpeMerger::MergeMany(std::vector<int32_t>& symbols) const {
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
  std::vector<Symbol> list;
  std::vector<Candidate> heap;
  list.reserve(symbols.size());
  for (int32_t i = 0; i < static_cast<int32_t>(symbols.size()); ++i) {
    list.push_back({symbols[static_cast<size_t>(i)], i - 1, i + 1, false});
  }
  list.back().next = -1;

  const auto consider = [&](int32_t left, int32_t right) {
    if (const Merge* merge =
            FindMerge(list[static_cast<size_t>(left)].id, list[static_cast<size_t>(right)].id)) {
      heap.push_back({merge->rank, left, merge->id});
      std::push_heap(heap.begin(), heap.end(), std::greater<>());
    }
  };
  for (int32_t i = 0; i + 1 < static_cast<int32_t>(list.size()); ++i) consider(i, i + 1);
  while (!heap.empty()) {
    const Candidate best = heap.front();
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    heap.pop_back();
    Symbol& left = list[static_cast<size_t>(best.left)];
    if (left.merged_away || left.next < 0) continue;
    Symbol& right = list[static_cast<size_t>(left.next)];
    const Merge* merge = FindMerge(left.id, right.id);
    if (merge == nullptr || merge->id != best.id) continue;
    left.id = best.id;
    left.next = right.next;
    right.merged_away = true;
    if (left.next >= 0) {
      list[static_cast<size_t>(left.next)].previous = best.left;
      consider(best.left, left.next);
    }
    if (left.previous >= 0) consider(left.previous, best.left);
  }
  symbols.clear();
  for (int32_t i = 0; i >= 0; i = list[static_cast<size_t>(i)].next) {
    symbols.push_back(list[static_cast<size_t>(i)].id);
  }
}

}  // namespace moe::sampler
