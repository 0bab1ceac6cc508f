// Which documents a dataset keeps: the rules, the duplicates, and the scores that the filters rank
// by.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sampler/append_file.h"
#include "sampler/document_records.h"
#include "sampler/duplicates.h"
#include "sampler/filters/near_duplicates.h"
#include "sampler/prepare_spec.h"

namespace moe::sampler {

// Scores of texts that an earlier dataset has. Takes about 40 bytes for each. Thread-safe once
// open.
class KnownScores {
 public:
  KnownScores() = default;  // none
  // Of all domains of the dataset in `folder`. INVALID_ARGUMENT where it has no records or its
  // scores are of other models.
  static absl::StatusOr<KnownScores> Open(const std::string& folder);

  // (fluency, advertisement), either of them NaN where it was not scored.
  std::pair<float, float> Find(const TextHash& text) const;

 private:
  absl::flat_hash_map<TextHash, std::pair<float, float>> scores_;
};

// What one text says about itself: a function of text and rules alone.
struct Analysis {
  DocumentRecord record;  // the verdict of the rules alone
  std::optional<NearSignature> signature;
};
Analysis Analyse(const std::string& text, const DomainRules& rules, bool with_signature,
                 const KnownScores& known);

// The documents that passed, over all domains and in order: what later ones are compared with. Not
// thread-safe.
class PassedDocuments {
 public:
  // `signatures_path` is a file of its own, from which a later process takes what is to be
  // restored; `signatures` of them count.
  static absl::StatusOr<PassedDocuments> Open(const PrepareSpec& spec,
                                              const std::string& signatures_path,
                                              int64_t signatures);
  // Takes in the documents of an earlier process.
  void Restore(const DocumentRecords& records, int64_t count);

  // The verdict on a document that passed the rules: whether an earlier one was like it.
  absl::StatusOr<Verdict> Judge(const Analysis& analysis);

  absl::Status Sync() { return signatures_file_.Sync(); }
  int64_t signatures() const { return static_cast<int64_t>(near_.size()); }
  bool compares_signatures() const { return by_signature_; }

 private:
  PassedDocuments(const PrepareSpec& spec, AppendFile signatures_file);

  const bool by_text_, by_signature_;
  SeenTexts seen_;
  NearDuplicates near_;
  AppendFile signatures_file_;
};

struct FilterOutcome {
  int64_t documents = 0;        // that passed the rules
  int64_t dropped_fluency = 0;  // with those that both filters drop
  int64_t dropped_advertisement = 0;
  std::optional<float> fluency_threshold, advertisement_threshold;  // the worst scores that stay
};
// Sets the verdicts of the score filters in a file of records: each filter drops exactly
// floor(drop * n) of the n documents that passed the rules. May be repeated.
absl::StatusOr<FilterOutcome> ApplyFilters(const std::string& records_path,
                                           const DomainRules& rules);

}  // namespace moe::sampler
