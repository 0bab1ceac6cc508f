// One domain of a prepare job, from its files to its shards.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/json.h"
#include "sampler/batch_reader.h"
#include "sampler/dataset.h"
#include "sampler/document_records.h"
#include "sampler/prepare_progress.h"
#include "sampler/prepare_spec.h"
#include "sampler/selection.h"
#include "sampler/token_shard.h"
#include "sampler/tokenizer/tokenizer.h"

namespace moe::sampler {

// What all domains of a job share. Not thread-safe.
struct PrepareJob {
  const PrepareSpec& spec;
  const Tokenizer& tokenizer;
  const bool add_bos;
  const std::string folder;  // the work folder
  const int threads;
  const size_t batch_bytes, checkpoint_bytes;
  const KnownScores& known_scores;
  PassedDocuments& passed;
  std::function<bool()> stop_requested;
  // Told after every batch.
  std::function<void(const DomainProgress&)> on_progress;
  // Makes what is told durable; the files are synced already.
  std::function<absl::Status(const DomainProgress&)> save;
};

class DomainPreparer {
 public:
  // `progress` says where an earlier process was, or is a new one.
  DomainPreparer(const PrepareJob& job, const PrepareSpec::Domain& domain, DomainProgress progress);

  // To the stage kDone. INVALID_ARGUMENT where there are not two documents to keep.
  absl::Status Run();

 private:
  using Tokens = std::vector<int32_t>;

  absl::Status OpenFiles();
  // Through all documents that are left, as the stage says.
  absl::Status Pass();
  absl::StatusOr<std::vector<Verdict>> Select(const std::vector<std::string>& texts);
  absl::StatusOr<std::vector<Verdict>> Recorded(size_t count);
  absl::Status Write(const std::vector<std::string>& texts, const std::vector<Verdict>& verdicts);
  absl::Status Filter();
  absl::Status Finish();
  absl::Status CutOnlyDocument();
  absl::Status FillEmptySide();
  absl::Status Checkpoint();
  absl::Status TooFewDocuments() const;
  absl::StatusOr<std::vector<Tokens>> Tokenise(const std::vector<std::string>& texts,
                                               const std::vector<Verdict>& verdicts) const;
  bool writes() const { return progress_.stage != DomainProgress::Stage::kSelect; }
  bool selects() const { return progress_.stage != DomainProgress::Stage::kWrite; }
  int64_t documents() const { return progress_.train.documents + progress_.heldout.documents; }
  TokenShardWriter& shard(Split split) { return split == Split::kTrain ? *train_ : *heldout_; }

  const PrepareJob& job_;
  const PrepareSpec::Domain& domain_;
  const DomainRules rules_;
  const std::string records_path_;
  DomainProgress progress_;
  std::unique_ptr<TokenShardWriter> train_, heldout_;
  std::optional<DocumentRecordWriter> records_;  // while selecting
  std::optional<DocumentRecords> recorded_;      // in kWrite
  std::string first_kept_;  // the text of the first document, while it is the only one
};

// The part of the data card, and of the manifest's metadata, about one domain that is done.
Json CardOf(const PrepareSpec::Domain& domain, const DomainProgress& progress);
Json MetadataOf(const PrepareSpec::Domain& domain, const DomainProgress& progress);
// The same of all domains, as rows of cells with titles first: what `moectl` shows of a dataset.
Json TableOf(const std::vector<PrepareSpec::Domain>& domains,
             const std::vector<DomainProgress>& progress);

}  // namespace moe::sampler
