#include "sampler/selection.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>

#include "common/status.h"
#include "sampler/filters/language.h"
#include "sampler/filters/linear_text_model.h"
#include "sampler/filters/quantile.h"
#include "sampler/utf8.h"

namespace moe::sampler {
namespace {

constexpr float kNotScored = std::numeric_limits<float>::quiet_NaN();

Verdict JudgeByRules(const std::string& text, const DomainRules& rules) {
  if (rules.min_characters > 0 || rules.max_characters > 0) {
    const int64_t characters = CountCharacters(text);
    if (characters < rules.min_characters) return Verdict::kTooShort;
    if (rules.max_characters > 0 && characters > rules.max_characters) return Verdict::kTooLarge;
  }
  if (rules.language != nullptr &&
      ShareInLanguages(text, rules.language->languages) < rules.language->min_share) {
    return Verdict::kLanguage;
  }
  return Verdict::kKept;
}

// The worst of the documents that passed, by `badness` of their records.
template <typename Badness>
std::vector<Ranked> Worst(const DocumentRecords& records, double share, const Badness& badness) {
  std::vector<Ranked> documents;
  for (int64_t i = 0; i < records.count(); ++i) {
    const DocumentRecord record = records.at(i);
    if (!PassedRules(record.verdict)) continue;
    documents.push_back(
        {.badness = badness(record), .hash = static_cast<uint32_t>(record.hash.low), .index = i});
  }
  return TakeWorst(std::move(documents), share);
}

}  // namespace

absl::StatusOr<KnownScores> KnownScores::Open(const std::string& folder) {
  KnownScores known;
  const std::string records_folder = JoinPath(folder, "documents");
  if (!FileExists(records_folder)) {
    return InvalidArgument(
        "scores_from: the dataset {} has no records of its documents: an earlier version made it; "
        "leave scores_from out",
        folder);
  }
  MOE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(records_folder));
  for (const std::string& name : names) {
    const std::string path = JoinPath(records_folder, name);
    MOE_ASSIGN_OR_RETURN(const DocumentRecords records, DocumentRecords::Open(path));
    if (records.fluency_model() != FluencyModel().crc32c() ||
        records.advertisement_model() != AdvertisementModel().crc32c()) {
      return InvalidArgument(
          "scores_from: the scores of {} are of other models than this program has; leave "
          "scores_from out, and the text is scored again",
          path);
    }
    for (int64_t i = 0; i < records.count(); ++i) {
      const DocumentRecord record = records.at(i);
      if (std::isnan(record.fluency) && std::isnan(record.advertisement)) continue;
      auto& [fluency, advertisement] =
          known.scores_.try_emplace(record.hash, kNotScored, kNotScored).first->second;
      if (std::isnan(fluency)) fluency = record.fluency;
      if (std::isnan(advertisement)) advertisement = record.advertisement;
    }
  }
  return known;
}

std::pair<float, float> KnownScores::Find(const TextHash& text) const {
  const auto it = scores_.find(text);
  return it == scores_.end() ? std::pair(kNotScored, kNotScored) : it->second;
}

Analysis Analyse(const std::string& text, const DomainRules& rules, bool with_signature,
                 const KnownScores& known) {
  Analysis analysis;
  DocumentRecord& record = analysis.record;
  record.hash = HashOf(text);
  record.bytes = static_cast<uint32_t>(text.size());  // kMaxDocumentBytes is far below
  record.verdict = JudgeByRules(text, rules);
  record.fluency = record.advertisement = kNotScored;
  if (record.verdict != Verdict::kKept) return analysis;
  if (with_signature) analysis.signature = SignatureOf(text);
  if (!rules.has_filters()) return analysis;
  std::tie(record.fluency, record.advertisement) = known.Find(record.hash);
  if (rules.drop_fluency.has_value() && std::isnan(record.fluency)) {
    record.fluency = FluencyModel().Score(text);
  }
  if (rules.drop_advertisement.has_value() && std::isnan(record.advertisement)) {
    record.advertisement = AdvertisementModel().Score(text);
  }
  return analysis;
}

PassedDocuments::PassedDocuments(const PrepareSpec& spec, AppendFile signatures_file)
    : by_text_(spec.remove_duplicates),
      by_signature_(spec.near_duplicate_similarity.has_value()),
      near_(spec.near_duplicate_similarity.value_or(1)),
      signatures_file_(std::move(signatures_file)) {}

absl::StatusOr<PassedDocuments> PassedDocuments::Open(const PrepareSpec& spec,
                                                      const std::string& signatures_path,
                                                      int64_t signatures) {
  MOE_ASSIGN_OR_RETURN(
      AppendFile file,
      AppendFile::Open(signatures_path, static_cast<uint64_t>(signatures) * kSignatureBytes));
  PassedDocuments passed(spec, std::move(file));
  if (signatures == 0) return passed;
  MOE_ASSIGN_OR_RETURN(const MappedFile stored, MappedFile::Open(signatures_path));
  for (int64_t i = 0; i < signatures; ++i) {
    NearSignature signature;
    std::memcpy(signature.data(), stored.data() + i * static_cast<int64_t>(kSignatureBytes),
                kSignatureBytes);
    passed.near_.Restore(signature);
  }
  return passed;
}

void PassedDocuments::Restore(const DocumentRecords& records, int64_t count) {
  if (!by_text_) return;
  for (int64_t i = 0; i < count; ++i) {
    const DocumentRecord record = records.at(i);
    if (PassedRules(record.verdict) || record.verdict == Verdict::kNearDuplicate) {
      seen_.Insert(record.hash);
    }
  }
}

absl::StatusOr<Verdict> PassedDocuments::Judge(const Analysis& analysis) {
  if (by_text_ && !seen_.Insert(analysis.record.hash)) return Verdict::kDuplicate;
  if (by_signature_ && analysis.signature.has_value()) {
    if (!near_.Insert(*analysis.signature)) return Verdict::kNearDuplicate;
    MOE_RETURN_IF_ERROR(signatures_file_.Append(analysis.signature->data(), kSignatureBytes));
  }
  return Verdict::kKept;
}

absl::StatusOr<FilterOutcome> ApplyFilters(const std::string& records_path,
                                           const DomainRules& rules) {
  MOE_ASSIGN_OR_RETURN(const DocumentRecords records, DocumentRecords::Open(records_path));
  std::vector<Verdict> verdicts(static_cast<size_t>(records.count()), Verdict::kKept);
  FilterOutcome outcome;
  const auto apply = [&](Verdict verdict, double share, const auto& badness) {
    for (const Ranked& document : Worst(records, share, badness)) {
      verdicts[static_cast<size_t>(document.index)] = verdict;
    }
  };
  // A document that both drop counts as not fluent.
  if (rules.drop_advertisement.has_value()) {
    apply(Verdict::kAdvertisement, *rules.drop_advertisement,
          [](const DocumentRecord& record) { return record.advertisement; });
  }
  if (rules.drop_fluency.has_value()) {
    apply(Verdict::kFluency, *rules.drop_fluency,
          [](const DocumentRecord& record) { return -record.fluency; });
  }
  MOE_ASSIGN_OR_RETURN(VerdictEditor editor, VerdictEditor::Open(records_path));
  for (int64_t i = 0; i < records.count(); ++i) {
    const DocumentRecord record = records.at(i);
    if (!PassedRules(record.verdict)) continue;
    ++outcome.documents;
    const Verdict verdict = verdicts[static_cast<size_t>(i)];
    if (verdict != record.verdict) MOE_RETURN_IF_ERROR(editor.Set(i, verdict));
    if (verdict == Verdict::kFluency) ++outcome.dropped_fluency;
    if (verdict == Verdict::kAdvertisement) ++outcome.dropped_advertisement;
    if (verdict != Verdict::kKept) continue;
    if (rules.drop_fluency.has_value()) {
      outcome.fluency_threshold =
          std::min(outcome.fluency_threshold.value_or(record.fluency), record.fluency);
    }
    if (rules.drop_advertisement.has_value()) {
      outcome.advertisement_threshold = std::max(
          outcome.advertisement_threshold.value_or(record.advertisement), record.advertisement);
    }
  }
  MOE_RETURN_IF_ERROR(editor.Sync());
  return outcome;
}

}  // namespace moe::sampler
