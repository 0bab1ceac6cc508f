// How far a prepare job is: progress.json of its work folder, from which another process goes on
// (docs/formats/dataset.md).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/json.h"
#include "sampler/document_records.h"
#include "sampler/documents.h"
#include "sampler/selection.h"
#include "sampler/token_shard.h"

namespace moe::sampler {

struct DropCounts {
  std::array<int64_t, kVerdictNames.size()> by_verdict{};
  std::vector<std::string> examples;  // "too_short: begins '...'"; at most kMaxDropExamples

  void Count(Verdict verdict, const std::string& text);
};
inline constexpr size_t kMaxDropExamples = 20;

// One domain. What the files hold beyond what is counted here does not exist.
struct DomainProgress {
  // With filters a domain is read twice: `kSelect` records and judges every document, `kWrite`
  // writes the ones that are kept. Without, `kBoth` does it in one go.
  enum class Stage { kBoth, kSelect, kWrite, kDone };

  Stage stage = Stage::kBoth;
  DocumentReader::Cursor cursor;
  int64_t records = 0;
  int64_t records_written = 0;  // of `records`: looked at by kWrite
  DropCounts dropped;
  TokenShardWriter::Extent train, heldout;
  std::optional<FilterOutcome> filters;
  bool stopped_at_limit = false;
  bool split_within_document = false;
  // Conversations: those that lost their end; and, at the end, the tokens that count in the loss.
  int64_t cut = 0;
  int64_t train_targets = 0, heldout_targets = 0;
};

struct PrepareProgressFile {
  // Of everything that decides the output: spec, tokenizer, files, models. Progress under another
  // fingerprint is of no use.
  std::string fingerprint;
  int64_t signatures = 0;               // near-duplicates: kept so far, over all domains
  std::vector<DomainProgress> domains;  // those before the last are done

  absl::Status Save(const std::string& work_folder) const;
  // nullopt where there is none.
  static absl::StatusOr<std::optional<PrepareProgressFile>> Load(const std::string& work_folder);
};

}  // namespace moe::sampler
