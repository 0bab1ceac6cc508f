#include "sampler/filters/near_duplicates.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "common/check.h"
#include "common/philox.h"
#include "sampler/filters/text_features.h"

namespace moe::sampler {
namespace {

constexpr size_t kWordsPerSequence = 5;
// Of a pair that is exactly as similar as the limit.
constexpr double kFindAtLeast = 0.99;
constexpr int kMaxCompared = 64;
constexpr size_t kFirstSlots = 64;

// x -> a x + b modulo 2^32 with odd a: a permutation of the sequences' hashes.
struct Permutations {
  alignas(64) std::array<uint32_t, kSignatureBytes> a, b;
};

const Permutations& ThePermutations() {
  static const Permutations permutations = [] {
    Permutations p;
    for (uint32_t i = 0; i < kSignatureBytes; ++i) {
      const std::array<uint32_t, 4> words = Philox4x32({i, 0, 0, 0}, /*key=*/0x4e656172);
      p.a[i] = words[0] | 1;
      p.b[i] = words[1];
    }
    return p;
  }();
  return permutations;
}

// The most rows with which the bands of a signature still find a pair of this similarity: the more
// rows, the fewer documents are compared in vain.
int RowsFor(double similarity) {
  for (int rows = 32; rows > 1; --rows) {
    const int bands = static_cast<int>(kSignatureBytes) / rows;
    if (1 - std::pow(1 - std::pow(similarity, rows), bands) >= kFindAtLeast) return rows;
  }
  return 1;
}

}  // namespace

std::optional<NearSignature> SignatureOf(const std::string& text) {
  const std::vector<uint64_t> words = Words(text);
  if (words.empty()) return std::nullopt;
  const Permutations& permutations = ThePermutations();
  alignas(64) std::array<uint32_t, kSignatureBytes> smallest;
  smallest.fill(std::numeric_limits<uint32_t>::max());
  const size_t length = std::min(kWordsPerSequence, words.size());
  for (size_t i = 0; i + length <= words.size(); ++i) {
    const uint64_t hash = XXH3_64bits(&words[i], length * sizeof words[0]);
    const auto x = static_cast<uint32_t>(hash >> 32);
    for (size_t k = 0; k < kSignatureBytes; ++k) {
      smallest[k] = std::min(smallest[k], permutations.a[k] * x + permutations.b[k]);
    }
  }
  NearSignature signature;
  for (size_t k = 0; k < kSignatureBytes; ++k) {
    // The smallest of many numbers has few high bits set; mixed, its low byte is uniform.
    signature[k] = static_cast<uint8_t>((smallest[k] * 0x9e3779b1u) >> 24);
  }
  return signature;
}

double EstimatedSimilarity(const NearSignature& a, const NearSignature& b) {
  int equal = 0;
  for (size_t k = 0; k < kSignatureBytes; ++k) equal += a[k] == b[k] ? 1 : 0;
  constexpr double kByChance = 1.0 / 256;
  const double share = equal / static_cast<double>(kSignatureBytes);
  return std::max(0.0, (share - kByChance) / (1 - kByChance));
}

NearDuplicates::NearDuplicates(double similarity)
    : similarity_(similarity), rows_(RowsFor(similarity)) {
  bands_.resize(kSignatureBytes / static_cast<size_t>(rows_));
  for (Band& band : bands_) band.slots.assign(kFirstSlots, 0);
}

bool NearDuplicates::SameBand(size_t band, const NearSignature& a, const NearSignature& b) const {
  const auto rows = static_cast<size_t>(rows_);
  return std::memcmp(&a[band * rows], &b[band * rows], rows) == 0;
}

uint64_t NearDuplicates::BandHash(size_t band, const NearSignature& signature) const {
  const auto rows = static_cast<size_t>(rows_);
  return XXH3_64bits_withSeed(&signature[band * rows], rows, band);
}

bool NearDuplicates::HasSimilar(const NearSignature& signature) const {
  for (size_t band = 0; band < bands_.size(); ++band) {
    const std::vector<uint32_t>& slots = bands_[band].slots;
    const size_t mask = slots.size() - 1;
    int compared = 0;
    for (size_t at = BandHash(band, signature) & mask; slots[at] != 0 && compared < kMaxCompared;
         at = (at + 1) & mask) {
      const NearSignature& other = signatures_[slots[at] - 1];
      if (!SameBand(band, signature, other)) continue;
      ++compared;
      if (EstimatedSimilarity(signature, other) >= similarity_) return true;
    }
  }
  return false;
}

// Not where kMaxCompared others share the band: nobody would come to it.
void NearDuplicates::Put(size_t band, uint32_t document) {
  std::vector<uint32_t>& slots = bands_[band].slots;
  const size_t mask = slots.size() - 1;
  const NearSignature& signature = signatures_[document];
  int same = 0;
  size_t at = BandHash(band, signature) & mask;
  for (; slots[at] != 0; at = (at + 1) & mask) {
    same += SameBand(band, signature, signatures_[slots[at] - 1]) ? 1 : 0;
    if (same == kMaxCompared) return;
  }
  slots[at] = document + 1;
}

// Keeps the tables at most half full. Documents go in again in their order, so that a table does
// not depend on when it grew.
void NearDuplicates::Grow() {
  const size_t slots = 2 * bands_[0].slots.size();
  for (size_t band = 0; band < bands_.size(); ++band) {
    bands_[band].slots.assign(slots, 0);
    for (uint32_t i = 0; i + 1 < signatures_.size(); ++i) Put(band, i);
  }
}

void NearDuplicates::Restore(const NearSignature& signature) {
  MOE_CHECK(signatures_.size() < std::numeric_limits<uint32_t>::max());
  signatures_.push_back(signature);
  if (2 * signatures_.size() > bands_[0].slots.size()) Grow();
  for (size_t band = 0; band < bands_.size(); ++band) {
    Put(band, static_cast<uint32_t>(signatures_.size() - 1));
  }
}

bool NearDuplicates::Insert(const NearSignature& signature) {
  if (HasSimilar(signature)) return false;
  Restore(signature);
  return true;
}

}  // namespace moe::sampler
