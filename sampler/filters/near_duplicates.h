// Near-duplicates among documents, by MinHash (Broder 1997) with banding.
//
// Two documents are as similar as the sets of their five-word sequences: Jaccard's index. A
// signature estimates it, and bands of a signature find the few earlier documents worth comparing.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moe::sampler {

inline constexpr size_t kSignatureBytes = 128;
// Eight bits of the smallest of each of 128 hashes of the five-word sequences: two signatures
// agree at a byte with probability j + (1 - j) / 256, where j is the similarity.
using NearSignature = std::array<uint8_t, kSignatureBytes>;

// A function of the words alone: neither case, marks nor white space count. A text of fewer than
// five words is one sequence; nullopt where it has none. Thread-safe.
std::optional<NearSignature> SignatureOf(const std::string& text);

// The similarity that two signatures suggest, 0 to 1, with a standard error of at most 0.045.
double EstimatedSimilarity(const NearSignature& a, const NearSignature& b);

// The documents kept so far. About 300 bytes for each. Not thread-safe.
class NearDuplicates {
 public:
  // A pair that is exactly as similar as `similarity` (0.5 to 1) is compared with a probability of
  // at least 0.99, a more similar one with more.
  explicit NearDuplicates(double similarity);

  // Whether no document so far is as similar as that, to the estimate; it is then one of them.
  // Documents are compared with at most 64 others that share a band: text that thousands of pages
  // share does not make every comparison with all of them.
  bool Insert(const NearSignature& signature);
  // Makes it one of them unasked: for what an earlier process had kept.
  void Restore(const NearSignature& signature);

  size_t size() const { return signatures_.size(); }
  const NearSignature& signature(size_t index) const { return signatures_[index]; }
  int rows_per_band() const { return rows_; }

 private:
  // Open addressing with linear probing: the numbers of documents, less one; 0 is free.
  struct Band {
    std::vector<uint32_t> slots;
  };
  bool HasSimilar(const NearSignature& signature) const;
  bool SameBand(size_t band, const NearSignature& a, const NearSignature& b) const;
  uint64_t BandHash(size_t band, const NearSignature& signature) const;
  void Put(size_t band, uint32_t document);
  void Grow();

  const double similarity_;
  int rows_;
  std::vector<Band> bands_;
  std::vector<NearSignature> signatures_;
};

}  // namespace moe::sampler
