// One domain of a prepare job whose text is conversations, from its files to its shards and masks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/json.h"
#include "sampler/chat_template.h"
#include "sampler/conversation.h"
#include "sampler/dataset.h"
#include "sampler/document_records.h"
#include "sampler/domain_preparer.h"
#include "sampler/prepare_progress.h"
#include "sampler/prepare_spec.h"
#include "sampler/target_mask.h"
#include "sampler/token_shard.h"
#include "sampler/tokenizer/tokenizer.h"

namespace moe::sampler {

// How every conversation of a dataset is turned into tokens.
struct ConversationEncoding {
  ChatTemplate chat;
  int64_t max_tokens = 0;
};

// INVALID_ARGUMENT where the spec's options are not usable with the tokenizer.
absl::StatusOr<ConversationEncoding> FindEncoding(const ConversationOptions& options,
                                                  const Tokenizer& tokenizer);

// One pass, with the progress and the crash safety of a DomainPreparer. Its records, one a line,
// say which lines are duplicates; they are for another process to go on with, and no part of the
// dataset.
class ConversationPreparer {
 public:
  // `progress` says where an earlier process was, or is a new one.
  ConversationPreparer(const PrepareJob& job, const ConversationEncoding& encoding,
                       const PrepareSpec::Domain& domain, DomainProgress progress);

  // To the stage kDone. INVALID_ARGUMENT where there are not two conversations to keep.
  absl::Status Run();

 private:
  // One split: tokens, and which of them count.
  struct Side {
    std::unique_ptr<TokenShardWriter> shard;
    std::unique_ptr<TargetMaskWriter> mask;

    absl::Status Append(const EncodedConversation& conversation);
    absl::Status Sync();
    absl::Status Finish();
    bool empty() const { return shard->extent().documents == 0; }
  };
  struct Line {
    std::string text, place;
  };

  absl::StatusOr<Side> OpenSide(Split split, const TokenShardWriter::Extent& extent) const;
  // Through all lines that are left.
  absl::Status Pass();
  // The next lines that are no duplicates, about job_.batch_bytes of them; none at the end.
  absl::StatusOr<std::vector<Line>> ReadBatch(DocumentReader& reader);
  absl::Status AppendBatch(const std::vector<Line>& lines, DocumentReader& reader);
  absl::Status FillEmptySide();
  absl::Status Finish();
  absl::Status Checkpoint();
  void CountSides();

  const PrepareJob& job_;
  const ConversationEncoding& encoding_;
  const PrepareSpec::Domain& domain_;
  DomainProgress progress_;
  Side train_, heldout_;
  std::optional<DocumentRecordWriter> records_;
};

// The parts of the data card, and of the manifest's metadata, that are about conversations: of the
// job, and of a domain that is done.
Json CardOf(const ConversationEncoding& encoding);
Json ConversationCardOf(const PrepareSpec::Domain& domain, const DomainProgress& progress);
Json ConversationMetadataOf(const PrepareSpec::Domain& domain, const DomainProgress& progress);

}  // namespace moe::sampler
