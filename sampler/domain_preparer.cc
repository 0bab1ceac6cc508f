#include "sampler/domain_preparer.h"

#include <numeric>

#include "common/crash_point.h"
#include "common/file.h"
#include "common/status.h"
#include "sampler/heldout.h"
#include "sampler/parallel_for.h"

namespace moe::sampler {
namespace {

using Stage = DomainProgress::Stage;

}  // namespace

DomainPreparer::DomainPreparer(const PrepareJob& job, const PrepareSpec::Domain& domain,
                               DomainProgress progress)
    : job_(job),
      domain_(domain),
      rules_(RulesOf(job.spec, domain.name)),
      records_path_(JoinPath(job.folder, RecordsPath(domain.name))),
      progress_(std::move(progress)) {
  if (progress_.stage == Stage::kBoth && rules_.has_filters()) progress_.stage = Stage::kSelect;
}

absl::Status DomainPreparer::OpenFiles() {
  const auto open = [&](Split split, const TokenShardWriter::Extent& extent) {
    return TokenShardWriter::Resume(JoinPath(job_.folder, ShardPath(split, domain_.name)),
                                    job_.tokenizer.vocab_size(), extent);
  };
  MOE_ASSIGN_OR_RETURN(train_, open(Split::kTrain, progress_.train));
  MOE_ASSIGN_OR_RETURN(heldout_, open(Split::kHeldout, progress_.heldout));
  if (selects()) {
    MOE_ASSIGN_OR_RETURN(records_, DocumentRecordWriter::Resume(records_path_, progress_.records));
  } else {
    MOE_ASSIGN_OR_RETURN(recorded_, DocumentRecords::Open(records_path_));
  }
  return absl::OkStatus();
}

absl::Status DomainPreparer::Run() {
  MOE_RETURN_IF_ERROR(OpenFiles());
  MOE_RETURN_IF_ERROR(Pass());
  if (progress_.stage == Stage::kSelect) {
    MOE_RETURN_IF_ERROR(Filter());
    MOE_RETURN_IF_ERROR(Pass());
  }
  return Finish();
}

absl::Status DomainPreparer::Pass() {
  MOE_ASSIGN_OR_RETURN(
      BatchReader reader,
      BatchReader::Open(domain_.paths,
                        {.set = domain_.set, .on_bad_document = job_.spec.on_bad_document},
                        job_.batch_bytes, progress_.cursor, job_.stop_requested));
  size_t unsaved_bytes = 0;
  while (!progress_.stopped_at_limit) {
    if (job_.stop_requested()) return Cancelled("stopped while reading {}", domain_.name);
    MOE_ASSIGN_OR_RETURN(const DocumentBatch batch, reader.Next());
    MOE_ASSIGN_OR_RETURN(const std::vector<Verdict> verdicts,
                         selects() ? Select(batch.texts) : Recorded(batch.texts.size()));
    if (writes()) MOE_RETURN_IF_ERROR(Write(batch.texts, verdicts));
    progress_.cursor = batch.after;
    job_.on_progress(progress_);
    if (batch.texts.empty()) break;
    for (const std::string& text : batch.texts) unsaved_bytes += text.size();
    CrashPoint("prepare_batch");
    // The text of an only document may be needed again, and it is not in the files.
    if (unsaved_bytes < job_.checkpoint_bytes || (writes() && documents() < 2)) continue;
    MOE_RETURN_IF_ERROR(Checkpoint());
    unsaved_bytes = 0;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Verdict>> DomainPreparer::Select(const std::vector<std::string>& texts) {
  std::vector<Analysis> analyses(texts.size());
  ParallelFor(texts.size(), job_.threads, [&](size_t i) {
    analyses[i] = Analyse(texts[i], rules_, job_.passed.compares_signatures(), job_.known_scores);
  });
  std::vector<Verdict> verdicts;
  for (size_t i = 0; i < texts.size(); ++i) {
    Verdict& verdict = analyses[i].record.verdict;
    if (verdict == Verdict::kKept) {
      MOE_ASSIGN_OR_RETURN(verdict, job_.passed.Judge(analyses[i]));
    }
    progress_.dropped.Count(verdict, texts[i]);
    MOE_RETURN_IF_ERROR(records_->Append(analyses[i].record));
    ++progress_.records;
    verdicts.push_back(verdict);
  }
  return verdicts;
}

absl::StatusOr<std::vector<Verdict>> DomainPreparer::Recorded(size_t count) {
  std::vector<Verdict> verdicts;
  for (size_t i = 0; i < count; ++i) {
    if (progress_.records_written == recorded_->count()) {
      return FailedPrecondition(
          "domain {} has more than the {} documents that it had when it was scored; its files "
          "changed: submit the job again",
          domain_.name, recorded_->count());
    }
    verdicts.push_back(recorded_->at(progress_.records_written++).verdict);
  }
  return verdicts;
}

absl::StatusOr<std::vector<DomainPreparer::Tokens>> DomainPreparer::Tokenise(
    const std::vector<std::string>& texts, const std::vector<Verdict>& verdicts) const {
  std::vector<absl::StatusOr<Tokens>> encoded(texts.size(), absl::StatusOr<Tokens>(Tokens()));
  ParallelFor(texts.size(), job_.threads, [&](size_t i) {
    if (verdicts[i] == Verdict::kKept) encoded[i] = job_.tokenizer.Encode(texts[i]);
  });
  std::vector<Tokens> result;
  for (absl::StatusOr<Tokens>& tokens : encoded) {
    if (!tokens.ok()) return tokens.status();
    if (job_.add_bos && !tokens->empty()) {
      tokens->insert(tokens->begin(), job_.tokenizer.settings().bos_id);
    }
    result.push_back(*std::move(tokens));
  }
  return result;
}

absl::Status DomainPreparer::Write(const std::vector<std::string>& texts,
                                   const std::vector<Verdict>& verdicts) {
  MOE_ASSIGN_OR_RETURN(const std::vector<Tokens> documents_tokens, Tokenise(texts, verdicts));
  for (size_t i = 0; i < texts.size() && !progress_.stopped_at_limit; ++i) {
    if (verdicts[i] != Verdict::kKept) continue;
    if (documents_tokens[i].empty()) {
      progress_.dropped.Count(Verdict::kNoTokens, texts[i]);
      continue;
    }
    if (documents() == 0) first_kept_ = texts[i];
    const Split split =
        IsHeldout(texts[i], job_.spec.heldout_fraction) ? Split::kHeldout : Split::kTrain;
    MOE_RETURN_IF_ERROR(shard(split).AppendDocument(documents_tokens[i]));
    progress_.train = train_->extent();
    progress_.heldout = heldout_->extent();
    if (documents() == 2) first_kept_.clear();
    progress_.stopped_at_limit = job_.spec.max_tokens_per_domain > 0 &&
                                 progress_.train.tokens >= job_.spec.max_tokens_per_domain;
  }
  return absl::OkStatus();
}

// Between the two passes.
absl::Status DomainPreparer::Filter() {
  MOE_RETURN_IF_ERROR(records_->Sync());
  records_.reset();
  MOE_ASSIGN_OR_RETURN(const FilterOutcome outcome, ApplyFilters(records_path_, rules_));
  auto& counts = progress_.dropped.by_verdict;
  counts[static_cast<size_t>(Verdict::kFluency)] = outcome.dropped_fluency;
  counts[static_cast<size_t>(Verdict::kAdvertisement)] = outcome.dropped_advertisement;
  counts[static_cast<size_t>(Verdict::kKept)] =
      outcome.documents - outcome.dropped_fluency - outcome.dropped_advertisement;
  progress_.filters = outcome;
  progress_.stage = Stage::kWrite;
  progress_.cursor = {};
  MOE_ASSIGN_OR_RETURN(recorded_, DocumentRecords::Open(records_path_));
  CrashPoint("prepare_filtered");
  return Checkpoint();
}

// Everything on disk before the progress that counts it.
absl::Status DomainPreparer::Checkpoint() {
  MOE_RETURN_IF_ERROR(train_->Sync());
  MOE_RETURN_IF_ERROR(heldout_->Sync());
  if (records_.has_value()) MOE_RETURN_IF_ERROR(records_->Sync());
  MOE_RETURN_IF_ERROR(job_.passed.Sync());
  CrashPoint("prepare_synced");
  MOE_RETURN_IF_ERROR(job_.save(progress_));
  CrashPoint("prepare_saved");
  return absl::OkStatus();
}

absl::Status DomainPreparer::TooFewDocuments() const {
  const ReadCounts& counts = progress_.cursor.counts;
  std::string why = fmt::format("{} files hold no document", counts.files);
  if (counts.other_sets > 0) {
    why = fmt::format("{} lines belong to other sets than '{}': {}", counts.other_sets, domain_.set,
                      fmt::join(counts.other_set_names, ", "));
  } else if (counts.documents > 0) {
    std::vector<std::string> reasons;
    for (size_t i = 1; i < kVerdictNames.size(); ++i) {
      const int64_t count = progress_.dropped.by_verdict[i];
      if (count > 0) reasons.push_back(fmt::format("{} {}", count, kVerdictNames[i]));
    }
    why = fmt::format("all of its {} documents were dropped: {}", counts.documents,
                      fmt::join(reasons, ", "));
  } else if (!counts.skipped_examples.empty()) {
    why = counts.skipped_examples[0];
  }
  return InvalidArgument("domain {} is empty: {} files were read ({})", domain_.name, counts.files,
                         why);
}

absl::Status DomainPreparer::CutOnlyDocument() {
  const auto cut = CutDocument(first_kept_, job_.spec.heldout_fraction);
  if (!cut.has_value()) {
    return InvalidArgument(
        "domain {} has a single document of {} bytes without a place to cut off what is held "
        "out; add text",
        domain_.name, first_kept_.size());
  }
  progress_.split_within_document = true;
  MOE_RETURN_IF_ERROR((progress_.train.documents > 0 ? train_ : heldout_)->DropLastDocument());
  MOE_ASSIGN_OR_RETURN(const std::vector<Tokens> parts,
                       Tokenise({cut->first, cut->second}, {Verdict::kKept, Verdict::kKept}));
  MOE_RETURN_IF_ERROR(train_->AppendDocument(parts[0]));
  return heldout_->AppendDocument(parts[1]);
}

// Moves the last document of the other side to the one that has none. It is copied, counted where
// it goes, and only then removed where it was: a process that dies in between leaves files that
// hold all that its progress counts.
absl::Status DomainPreparer::FillEmptySide() {
  const bool train_is_empty = progress_.train.documents == 0;
  TokenShardWriter& from = train_is_empty ? *heldout_ : *train_;
  TokenShardWriter& to = train_is_empty ? *train_ : *heldout_;
  MOE_ASSIGN_OR_RETURN(const Tokens document, from.LastDocument());
  MOE_RETURN_IF_ERROR(to.AppendDocument(document));
  const auto tokens = static_cast<int64_t>(document.size());
  for (auto* extent : {&progress_.train, &progress_.heldout}) {
    const int64_t sign = (extent == &progress_.train) == train_is_empty ? 1 : -1;
    extent->tokens += sign * tokens;
    extent->documents += sign;
  }
  MOE_RETURN_IF_ERROR(Checkpoint());
  return from.DropLastDocument();
}

// So that each side has a document.
absl::Status DomainPreparer::Finish() {
  if (documents() == 0) return TooFewDocuments();
  if (documents() == 1) {
    MOE_RETURN_IF_ERROR(CutOnlyDocument());
  } else if (progress_.train.documents == 0 || progress_.heldout.documents == 0) {
    MOE_RETURN_IF_ERROR(FillEmptySide());
  }
  MOE_RETURN_IF_ERROR(train_->Finish());
  MOE_RETURN_IF_ERROR(heldout_->Finish());
  progress_.train = train_->extent();
  progress_.heldout = heldout_->extent();
  progress_.stage = Stage::kDone;
  MOE_RETURN_IF_ERROR(Checkpoint());
  job_.on_progress(progress_);
  return absl::OkStatus();
}

Json CardOf(const PrepareSpec::Domain& domain, const DomainProgress& progress) {
  const ReadCounts& counts = progress.cursor.counts;
  Json skipped = Json::object(), dropped = Json::object();
  for (size_t i = 0; i < kSkipNames.size(); ++i) skipped[kSkipNames[i]] = counts.skipped[i];
  for (size_t i = 1; i < kVerdictNames.size(); ++i) {
    dropped[kVerdictNames[i]] = progress.dropped.by_verdict[i];
  }
  Json card = {{"name", domain.name},
               {"paths", domain.paths},
               {"set", domain.set},
               {"files", counts.files},
               {"bytes", counts.bytes},
               {"documents", counts.documents},
               {"other_sets", counts.other_sets},
               {"characters_repaired", counts.characters_repaired},
               {"skipped", skipped},
               {"skipped_examples", counts.skipped_examples},
               {"dropped", dropped},
               {"dropped_examples", progress.dropped.examples},
               {"stopped_at_token_limit", progress.stopped_at_limit},
               {"split_within_document", progress.split_within_document},
               {"train_documents", progress.train.documents},
               {"train_tokens", progress.train.tokens},
               {"heldout_documents", progress.heldout.documents},
               {"heldout_tokens", progress.heldout.tokens}};
  if (progress.filters.has_value()) {
    const FilterOutcome& filters = *progress.filters;
    Json json = {{"documents", filters.documents}};
    if (filters.fluency_threshold) json["fluency_threshold"] = *filters.fluency_threshold;
    if (filters.advertisement_threshold) {
      json["advertisement_threshold"] = *filters.advertisement_threshold;
    }
    card["filters"] = std::move(json);
  }
  return card;
}

// The counts above 0 by reason.
Json MetadataOf(const PrepareSpec::Domain& domain, const DomainProgress& progress) {
  const ReadCounts& counts = progress.cursor.counts;
  Json skipped = Json::object(), dropped = Json::object();
  for (size_t i = 0; i < kSkipNames.size(); ++i) {
    if (counts.skipped[i] > 0) skipped[kSkipNames[i]] = counts.skipped[i];
  }
  for (size_t i = 1; i < kVerdictNames.size(); ++i) {
    const int64_t count = progress.dropped.by_verdict[i];
    if (count > 0) dropped[kVerdictNames[i]] = count;
  }
  return {{"name", domain.name},
          {"documents", counts.documents},
          {"skipped", skipped},
          {"dropped", dropped},
          {"train_tokens", progress.train.tokens},
          {"train_documents", progress.train.documents},
          {"heldout_tokens", progress.heldout.tokens},
          {"heldout_documents", progress.heldout.documents}};
}

Json TableOf(const std::vector<PrepareSpec::Domain>& domains,
             const std::vector<DomainProgress>& progress) {
  // A reason has a column where it dropped something.
  std::vector<size_t> reasons;
  for (size_t reason = 1; reason < kVerdictNames.size(); ++reason) {
    for (const DomainProgress& domain : progress) {
      if (domain.dropped.by_verdict[reason] == 0) continue;
      reasons.push_back(reason);
      break;
    }
  }
  Json titles = {"domain", "read", "skipped"};
  for (const size_t reason : reasons) titles.push_back(kVerdictNames[reason]);
  for (const char* title : {"kept", "train tokens", "held-out tokens"}) titles.push_back(title);
  Json table = Json::array({titles});
  for (size_t i = 0; i < domains.size(); ++i) {
    const ReadCounts& counts = progress[i].cursor.counts;
    Json row = {domains[i].name, counts.documents,
                std::accumulate(counts.skipped.begin(), counts.skipped.end(), int64_t{0})};
    for (const size_t reason : reasons) row.push_back(progress[i].dropped.by_verdict[reason]);
    row.push_back(progress[i].train.documents + progress[i].heldout.documents);
    row.push_back(progress[i].train.tokens);
    row.push_back(progress[i].heldout.tokens);
    table.push_back(std::move(row));
  }
  return table;
}

}  // namespace moe::sampler
