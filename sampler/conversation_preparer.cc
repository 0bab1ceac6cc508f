#include "sampler/conversation_preparer.h"

#include <algorithm>
#include <utility>

#include "common/crash_point.h"
#include "common/file.h"
#include "common/status.h"
#include "sampler/duplicates.h"
#include "sampler/heldout.h"
#include "sampler/parallel_for.h"

namespace moe::sampler {
namespace {

constexpr int64_t kMinTokens = 16;

struct Encoded {
  EncodedConversation conversation;
  bool is_cut = false;  // its end is missing
};

// INVALID_ARGUMENT says why the line is of no use.
absl::StatusOr<Encoded> EncodeLine(const PrepareJob& job, const ConversationEncoding& encoding,
                                   const std::string& line) {
  MOE_ASSIGN_OR_RETURN(const Conversation conversation, ParseConversation(line));
  Encoded encoded;
  MOE_ASSIGN_OR_RETURN(encoded.conversation,
                       EncodeConversation(encoding.chat, conversation, job.tokenizer, job.add_bos));
  auto& [tokens, is_target] = encoded.conversation;
  encoded.is_cut = static_cast<int64_t>(tokens.size()) > encoding.max_tokens;
  if (encoded.is_cut) {
    tokens.resize(static_cast<size_t>(encoding.max_tokens));
    is_target.resize(static_cast<size_t>(encoding.max_tokens));
  }
  // The first token has nothing before it to be predicted from.
  if (tokens.size() < 2 ||
      std::none_of(is_target.begin() + 1, is_target.end(), [](bool target) { return target; })) {
    return InvalidArgument("no answer begins within {} tokens", encoding.max_tokens);
  }
  return encoded;
}

}  // namespace

absl::StatusOr<ConversationEncoding> FindEncoding(const ConversationOptions& options,
                                                  const Tokenizer& tokenizer) {
  if (options.max_tokens < kMinTokens) {
    return InvalidArgument("conversations.max_tokens={}; at least {}", options.max_tokens,
                           kMinTokens);
  }
  ConversationEncoding encoding{.chat = {}, .max_tokens = options.max_tokens};
  const std::string name =
      options.chat_template.empty() ? DefaultChatTemplate(tokenizer) : options.chat_template;
  MOE_ASSIGN_OR_RETURN(encoding.chat, FindChatTemplate(name, tokenizer));
  if (options.system.has_value()) encoding.chat.system = options.system;
  return encoding;
}

absl::Status ConversationPreparer::Side::Append(const EncodedConversation& conversation) {
  MOE_RETURN_IF_ERROR(shard->AppendDocument(conversation.tokens));
  return mask->Append(conversation.is_target);
}

absl::Status ConversationPreparer::Side::Sync() {
  MOE_RETURN_IF_ERROR(shard->Sync());
  return mask->Sync();
}

absl::Status ConversationPreparer::Side::Finish() {
  MOE_RETURN_IF_ERROR(shard->Finish());
  return mask->Finish();
}

ConversationPreparer::ConversationPreparer(const PrepareJob& job,
                                           const ConversationEncoding& encoding,
                                           const PrepareSpec::Domain& domain,
                                           DomainProgress progress)
    : job_(job), encoding_(encoding), domain_(domain), progress_(std::move(progress)) {}

absl::StatusOr<ConversationPreparer::Side> ConversationPreparer::OpenSide(
    Split split, const TokenShardWriter::Extent& extent) const {
  Side side;
  MOE_ASSIGN_OR_RETURN(
      side.shard, TokenShardWriter::Resume(JoinPath(job_.folder, ShardPath(split, domain_.name)),
                                           job_.tokenizer.vocab_size(), extent));
  MOE_ASSIGN_OR_RETURN(
      side.mask, TargetMaskWriter::Resume(
                     JoinPath(job_.folder, TargetMaskPath(split, domain_.name)), extent.tokens));
  return side;
}

absl::Status ConversationPreparer::Run() {
  MOE_ASSIGN_OR_RETURN(train_, OpenSide(Split::kTrain, progress_.train));
  MOE_ASSIGN_OR_RETURN(heldout_, OpenSide(Split::kHeldout, progress_.heldout));
  MOE_ASSIGN_OR_RETURN(
      records_, DocumentRecordWriter::Resume(JoinPath(job_.folder, RecordsPath(domain_.name)),
                                             progress_.records));
  MOE_RETURN_IF_ERROR(Pass());
  return Finish();
}

absl::Status ConversationPreparer::Pass() {
  MOE_ASSIGN_OR_RETURN(
      DocumentReader reader,
      DocumentReader::Open(domain_.paths, {.on_bad_document = job_.spec.on_bad_document,
                                           .whole_lines = true,
                                           .stop_requested = job_.stop_requested}));
  MOE_RETURN_IF_ERROR(reader.Seek(progress_.cursor));
  size_t unsaved_bytes = 0;
  while (!progress_.stopped_at_limit) {
    if (job_.stop_requested()) return Cancelled("stopped while tokenising {}", domain_.name);
    MOE_ASSIGN_OR_RETURN(const std::vector<Line> lines, ReadBatch(reader));
    MOE_RETURN_IF_ERROR(AppendBatch(lines, reader));
    progress_.cursor = reader.cursor();
    job_.on_progress(progress_);
    if (lines.empty()) break;
    for (const Line& line : lines) unsaved_bytes += line.text.size();
    CrashPoint("prepare_batch");
    if (unsaved_bytes < job_.checkpoint_bytes) continue;
    MOE_RETURN_IF_ERROR(Checkpoint());
    unsaved_bytes = 0;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ConversationPreparer::Line>> ConversationPreparer::ReadBatch(
    DocumentReader& reader) {
  std::vector<Line> lines;
  for (size_t bytes = 0; bytes < job_.batch_bytes;) {
    MOE_ASSIGN_OR_RETURN(std::optional<std::string> line, reader.Next());
    if (!line.has_value()) break;
    Analysis analysis;
    analysis.record.hash = HashOf(*line);
    analysis.record.bytes = static_cast<uint32_t>(line->size());
    MOE_ASSIGN_OR_RETURN(analysis.record.verdict, job_.passed.Judge(analysis));
    MOE_RETURN_IF_ERROR(records_->Append(analysis.record));
    ++progress_.records;
    ++progress_.dropped.by_verdict[static_cast<size_t>(analysis.record.verdict)];
    if (analysis.record.verdict != Verdict::kKept) continue;
    bytes += line->size();
    lines.push_back({.text = *std::move(line), .place = reader.place()});
  }
  return lines;
}

absl::Status ConversationPreparer::AppendBatch(const std::vector<Line>& lines,
                                               DocumentReader& reader) {
  std::vector<absl::StatusOr<Encoded>> batch(lines.size(), absl::StatusOr<Encoded>(Encoded()));
  ParallelFor(lines.size(), job_.threads,
              [&](size_t i) { batch[i] = EncodeLine(job_, encoding_, lines[i].text); });
  for (size_t i = 0; i < batch.size() && !progress_.stopped_at_limit; ++i) {
    if (absl::IsInvalidArgument(batch[i].status())) {
      MOE_RETURN_IF_ERROR(
          reader.Reject(Skip::kBadJson, lines[i].place + ": " + Message(batch[i].status())));
      continue;
    }
    MOE_RETURN_IF_ERROR(batch[i].status());
    progress_.cut += batch[i]->is_cut ? 1 : 0;
    Side& side = IsHeldout(lines[i].text, job_.spec.heldout_fraction) ? heldout_ : train_;
    MOE_RETURN_IF_ERROR(side.Append(batch[i]->conversation));
    progress_.stopped_at_limit = job_.spec.max_tokens_per_domain > 0 &&
                                 train_.shard->extent().tokens >= job_.spec.max_tokens_per_domain;
  }
  CountSides();
  return absl::OkStatus();
}

void ConversationPreparer::CountSides() {
  progress_.train = train_.shard->extent();
  progress_.heldout = heldout_.shard->extent();
}

// Everything on disk before the progress that counts it.
absl::Status ConversationPreparer::Checkpoint() {
  MOE_RETURN_IF_ERROR(train_.Sync());
  MOE_RETURN_IF_ERROR(heldout_.Sync());
  MOE_RETURN_IF_ERROR(records_->Sync());
  MOE_RETURN_IF_ERROR(job_.passed.Sync());
  CrashPoint("prepare_synced");
  MOE_RETURN_IF_ERROR(job_.save(progress_));
  CrashPoint("prepare_saved");
  return absl::OkStatus();
}

// Moves the last conversation of the other side to the one that has none, as
// DomainPreparer::FillEmptySide does: copied and counted before it is removed.
absl::Status ConversationPreparer::FillEmptySide() {
  const bool train_is_empty = train_.empty();
  Side& from = train_is_empty ? heldout_ : train_;
  Side& to = train_is_empty ? train_ : heldout_;
  EncodedConversation conversation;
  MOE_ASSIGN_OR_RETURN(conversation.tokens, from.shard->LastDocument());
  const auto tokens = static_cast<int64_t>(conversation.tokens.size());
  MOE_ASSIGN_OR_RETURN(conversation.is_target, from.mask->Last(tokens));
  MOE_RETURN_IF_ERROR(to.Append(conversation));
  CountSides();
  TokenShardWriter::Extent& left = train_is_empty ? progress_.heldout : progress_.train;
  left.tokens -= tokens;
  --left.documents;
  MOE_RETURN_IF_ERROR(Checkpoint());
  MOE_RETURN_IF_ERROR(from.shard->DropLastDocument());
  return from.mask->DropLast(tokens);
}

// So that each side has a conversation.
absl::Status ConversationPreparer::Finish() {
  if (progress_.train.documents + progress_.heldout.documents < 2) {
    const ReadCounts& counts = progress_.cursor.counts;
    return InvalidArgument(
        "domain {} has no two conversations, one to train on and one to hold out: {} files were "
        "read ({})",
        domain_.name, counts.files,
        counts.skipped_examples.empty() ? "nothing skipped" : counts.skipped_examples[0]);
  }
  if (train_.empty() || heldout_.empty()) MOE_RETURN_IF_ERROR(FillEmptySide());
  MOE_RETURN_IF_ERROR(train_.Finish());
  MOE_RETURN_IF_ERROR(heldout_.Finish());
  CountSides();
  progress_.train_targets = train_.mask->num_targets();
  progress_.heldout_targets = heldout_.mask->num_targets();
  progress_.stage = DomainProgress::Stage::kDone;
  MOE_RETURN_IF_ERROR(Checkpoint());
  job_.on_progress(progress_);
  return absl::OkStatus();
}

Json CardOf(const ConversationEncoding& encoding) {
  Json card = {{"template", encoding.chat.name}, {"max_tokens", encoding.max_tokens}};
  if (encoding.chat.system.has_value()) card["system"] = *encoding.chat.system;
  return card;
}

Json ConversationMetadataOf(const PrepareSpec::Domain& domain, const DomainProgress& progress) {
  return {{"name", domain.name},
          {"train_tokens", progress.train.tokens},
          {"train_documents", progress.train.documents},
          {"train_targets", progress.train_targets},
          {"heldout_tokens", progress.heldout.tokens},
          {"heldout_documents", progress.heldout.documents},
          {"heldout_targets", progress.heldout_targets}};
}

Json ConversationCardOf(const PrepareSpec::Domain& domain, const DomainProgress& progress) {
  const ReadCounts& counts = progress.cursor.counts;
  Json skipped = Json::object();
  for (size_t i = 0; i < kSkipNames.size(); ++i) skipped[kSkipNames[i]] = counts.skipped[i];
  skipped["duplicate"] = progress.dropped.by_verdict[static_cast<size_t>(Verdict::kDuplicate)];
  Json card = ConversationMetadataOf(domain, progress);
  card.update({{"paths", domain.paths},
               {"files", counts.files},
               {"bytes", counts.bytes},
               {"documents", counts.documents},
               {"characters_repaired", counts.characters_repaired},
               {"cut", progress.cut},
               {"skipped", skipped},
               {"skipped_examples", counts.skipped_examples},
               {"stopped_at_token_limit", progress.stopped_at_limit}});
  return card;
}

}  // namespace moe::sampler
