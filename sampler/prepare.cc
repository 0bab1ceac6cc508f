#include "sampler/prepare.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <set>
#include <thread>

#include "common/file.h"
#include "common/status.h"
#include "sampler/dataset.h"
#include "sampler/documents.h"
#include "sampler/duplicates.h"
#include "sampler/heldout.h"
#include "sampler/token_shard.h"
#include "sampler/tokenizer/tokenizer.h"
#include "sampler/utf8.h"

namespace moe::sampler {
namespace {

// Text that is tokenised at a time: bounds memory, and how late a stop request is seen.
constexpr size_t kBatchBytes = size_t{8} << 20;

// Of a dropped document's text, to find it by in the data card.
constexpr int64_t kExampleCharacters = 60;

bool IsDomainName(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

absl::Status CheckSpec(const PrepareSpec& spec) {
  if (spec.domains.empty()) return InvalidArgument("no domains; name at least one, with its paths");
  std::set<std::string> names;
  for (const PrepareSpec::Domain& domain : spec.domains) {
    if (!IsDomainName(domain.name)) {
      return InvalidArgument("the domain name '{}' must be lower-case letters, digits and dashes",
                             domain.name);
    }
    if (!names.insert(domain.name).second) {
      return InvalidArgument("domain {} is listed twice; list its paths under one", domain.name);
    }
    if (domain.paths.empty()) return InvalidArgument("domain {} has no paths", domain.name);
  }
  if (!(spec.heldout_fraction >= 0 && spec.heldout_fraction <= 0.5)) {
    return InvalidArgument("heldout_fraction is {}; it must be 0 to 0.5", spec.heldout_fraction);
  }
  if (spec.min_characters < 0) {
    return InvalidArgument("min_characters is {}; it must be at least 0", spec.min_characters);
  }
  if (spec.max_tokens_per_domain < 0) {
    return InvalidArgument("max_tokens_per_domain is {}; it must be at least 0, which is no limit",
                           spec.max_tokens_per_domain);
  }
  return absl::OkStatus();
}

using Tokens = std::vector<int32_t>;

// Tokenises on `threads` threads; the result is in the order of `texts`.
absl::StatusOr<std::vector<Tokens>> TokeniseAll(const Tokenizer& tokenizer,
                                                const std::vector<std::string>& texts, bool add_bos,
                                                int threads) {
  std::vector<absl::StatusOr<Tokens>> encoded(texts.size(), absl::StatusOr<Tokens>(Tokens()));
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next++; i < texts.size(); i = next++) encoded[i] = tokenizer.Encode(texts[i]);
  };
  std::vector<std::jthread> helpers;
  for (size_t i = 1; i < std::min(texts.size(), static_cast<size_t>(threads)); ++i) {
    helpers.emplace_back(work);
  }
  work();
  helpers.clear();  // joins

  std::vector<Tokens> result;
  for (absl::StatusOr<Tokens>& tokens : encoded) {
    if (!tokens.ok()) return tokens.status();
    if (add_bos && !tokens->empty()) tokens->insert(tokens->begin(), tokenizer.settings().bos_id);
    result.push_back(*std::move(tokens));
  }
  return result;
}

// The two shards of a domain. Each holds its newest document back until the next one comes, so that
// at the end one can still change sides where a side would be empty.
class DomainShards {
 public:
  static absl::StatusOr<DomainShards> Create(const std::string& folder, const std::string& domain,
                                             int64_t vocab_size) {
    DomainShards shards;
    for (const Split split : {Split::kTrain, Split::kHeldout}) {
      MOE_ASSIGN_OR_RETURN(
          shards.Of(split).writer,
          TokenShardWriter::Create(JoinPath(folder, ShardPath(split, domain)), vocab_size));
    }
    return shards;
  }

  absl::Status Append(Split split, Tokens document) {
    Side& side = Of(split);
    if (!side.newest.empty()) MOE_RETURN_IF_ERROR(side.writer->AppendDocument(side.newest));
    side.newest = std::move(document);
    return absl::OkStatus();
  }

  int64_t train_tokens() {
    return train_.writer->num_tokens() + static_cast<int64_t>(train_.newest.size());
  }

  // INVALID_ARGUMENT where there are not two documents.
  absl::Status Finish(const std::string& domain) {
    if (heldout_.empty() && train_.writer->num_documents() > 0)
      std::swap(heldout_.newest, train_.newest);
    if (train_.empty() && heldout_.writer->num_documents() > 0)
      std::swap(heldout_.newest, train_.newest);
    for (Side* side : {&train_, &heldout_}) {
      if (!side->newest.empty()) MOE_RETURN_IF_ERROR(side->writer->AppendDocument(side->newest));
      if (side->writer->num_documents() == 0) {
        return InvalidArgument(
            "domain {} has no two documents with tokens, one to train on and one to hold out",
            domain);
      }
      MOE_RETURN_IF_ERROR(side->writer->Finish());
    }
    return absl::OkStatus();
  }

  const TokenShardWriter& train() const { return *train_.writer; }
  const TokenShardWriter& heldout() const { return *heldout_.writer; }

 private:
  struct Side {
    std::unique_ptr<TokenShardWriter> writer;
    Tokens newest;  // not written yet; empty: none
    bool empty() const { return writer->num_documents() == 0 && newest.empty(); }
  };
  Side& Of(Split split) { return split == Split::kTrain ? train_ : heldout_; }
  Side train_, heldout_;
};

// One domain, from its files to its shards.
class DomainPreparer {
 public:
  DomainPreparer(const PrepareSpec& spec, const PrepareSpec::Domain& domain,
                 const Tokenizer& tokenizer, bool add_bos, int threads, SeenTexts& seen,
                 DocumentReader reader, DomainShards shards)
      : spec_(spec),
        domain_(domain),
        tokenizer_(tokenizer),
        add_bos_(add_bos),
        threads_(threads),
        seen_(seen),
        reader_(std::move(reader)),
        shards_(std::move(shards)) {}

  // `progress` counts on from what it holds.
  absl::Status Run(PrepareProgress progress, PrepareObserver& observer) {
    const PrepareProgress before = progress;
    bool first_batch = true;
    for (;;) {
      if (observer.StopRequested()) return Cancelled("stopped while tokenising {}", domain_.name);
      MOE_ASSIGN_OR_RETURN(std::vector<std::string> texts, ReadBatch());
      if (texts.empty()) break;
      if (first_batch && texts.size() == 1) {
        MOE_RETURN_IF_ERROR(AppendOnlyDocument(texts[0]));
        break;
      }
      first_batch = false;
      MOE_RETURN_IF_ERROR(AppendDocuments(texts));
      progress.documents = before.documents + reader_.counts().documents;
      progress.bytes = before.bytes + reader_.counts().bytes;
      observer.OnProgress(progress);
      if (stopped_at_limit_) break;
    }
    if (reader_.counts().documents == 0) return EmptyDomain();
    return shards_.Finish(domain_.name);
  }

  const ReadCounts& counts() const { return reader_.counts(); }

  Json Card() const {
    const ReadCounts& counts = reader_.counts();
    Json skipped = Json::object();
    for (size_t i = 0; i < kSkipNames.size(); ++i) skipped[kSkipNames[i]] = counts.skipped[i];
    Json card = Metadata();
    card.update({{"paths", domain_.paths},
                 {"set", domain_.set},
                 {"files", counts.files},
                 {"bytes", counts.bytes},
                 {"documents", counts.documents},
                 {"other_sets", counts.other_sets},
                 {"characters_repaired", counts.characters_repaired},
                 {"skipped", skipped},
                 {"skipped_examples", counts.skipped_examples},
                 {"stopped_at_token_limit", stopped_at_limit_},
                 {"split_within_document", split_within_document_}});
    return card;
  }

  Json Metadata() const {
    return {{"name", domain_.name},
            {"train_tokens", shards_.train().num_tokens()},
            {"train_documents", shards_.train().num_documents()},
            {"heldout_tokens", shards_.heldout().num_tokens()},
            {"heldout_documents", shards_.heldout().num_documents()}};
  }

 private:
  absl::Status EmptyDomain() const {
    const ReadCounts& counts = reader_.counts();
    std::string why = "there are no files";
    if (!counts.skipped_examples.empty()) why = counts.skipped_examples[0];
    if (counts.other_sets > 0) {
      why = fmt::format("{} lines belong to other sets than '{}': {}", counts.other_sets,
                        domain_.set, fmt::join(reader_.other_sets(), ", "));
    }
    return InvalidArgument("domain {} is empty: {} files were read and none holds a document ({})",
                           domain_.name, counts.files, why);
  }

  // Whether the spec keeps the document; counts it where not.
  bool Keep(const std::string& text) {
    const auto start = [&] { return FirstCharacters(text, kExampleCharacters); };
    if (spec_.min_characters > 0) {
      const int64_t characters = CountCharacters(text);
      if (characters < spec_.min_characters) {
        reader_.CountSkip(
            Skip::kTooShort,
            fmt::format("a document of {} characters that begins '{}'", characters, start()));
        return false;
      }
    }
    if (spec_.remove_duplicates && !seen_.Insert(text)) {
      reader_.CountSkip(Skip::kDuplicate,
                        fmt::format("a text seen before, that begins '{}'", start()));
      return false;
    }
    return true;
  }

  // At least two documents, where there are two, so that an only one is known as such.
  absl::StatusOr<std::vector<std::string>> ReadBatch() {
    std::vector<std::string> texts;
    for (size_t bytes = 0; bytes < kBatchBytes || texts.size() < 2;) {
      MOE_ASSIGN_OR_RETURN(std::optional<std::string> text, reader_.Next());
      if (!text.has_value()) break;
      if (!Keep(*text)) continue;
      bytes += text->size();
      texts.push_back(*std::move(text));
    }
    return texts;
  }

  absl::Status AppendDocuments(const std::vector<std::string>& texts) {
    MOE_ASSIGN_OR_RETURN(std::vector<Tokens> documents,
                         TokeniseAll(tokenizer_, texts, add_bos_, threads_));
    for (size_t i = 0; i < documents.size() && !stopped_at_limit_; ++i) {
      if (documents[i].empty()) {
        reader_.CountSkip(Skip::kEmpty, "a document of " + std::to_string(texts[i].size()) +
                                            " bytes for which the vocabulary has no tokens");
        continue;
      }
      const Split split =
          IsHeldout(texts[i], spec_.heldout_fraction) ? Split::kHeldout : Split::kTrain;
      MOE_RETURN_IF_ERROR(shards_.Append(split, std::move(documents[i])));
      stopped_at_limit_ =
          spec_.max_tokens_per_domain > 0 && shards_.train_tokens() >= spec_.max_tokens_per_domain;
    }
    return absl::OkStatus();
  }

  absl::Status AppendOnlyDocument(const std::string& text) {
    const auto cut = CutDocument(text, spec_.heldout_fraction);
    if (!cut.has_value()) {
      return InvalidArgument(
          "domain {} has a single document of {} bytes without a place to cut off what is held "
          "out; add text",
          domain_.name, text.size());
    }
    split_within_document_ = true;
    MOE_ASSIGN_OR_RETURN(std::vector<Tokens> parts,
                         TokeniseAll(tokenizer_, {cut->first, cut->second}, add_bos_, threads_));
    MOE_RETURN_IF_ERROR(shards_.Append(Split::kTrain, std::move(parts[0])));
    return shards_.Append(Split::kHeldout, std::move(parts[1]));
  }

  const PrepareSpec& spec_;
  const PrepareSpec::Domain& domain_;
  const Tokenizer& tokenizer_;
  const bool add_bos_;
  const int threads_;
  SeenTexts& seen_;
  DocumentReader reader_;
  DomainShards shards_;
  bool stopped_at_limit_ = false;
  bool split_within_document_ = false;
};

absl::StatusOr<bool> ResolveAddBos(const PrepareSpec& spec, const Tokenizer& tokenizer) {
  const bool add_bos = spec.add_bos.value_or(tokenizer.settings().add_bos);
  if (add_bos && tokenizer.settings().bos_id < 0) {
    return InvalidArgument(
        "add_bos is on and the tokenizer {} has no beginning-of-sequence token; set add_bos to "
        "false",
        tokenizer.files().source);
  }
  return add_bos;
}

absl::Status MakeFolder(const std::string& folder) {
  MOE_RETURN_IF_ERROR(MakeDirectories(folder));
  MOE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(folder));
  if (!names.empty()) {
    return FailedPrecondition("{} is not empty (it holds {}); a dataset needs a folder of its own",
                              folder, names[0]);
  }
  for (const char* subfolder : {"train", "heldout"}) {
    MOE_RETURN_IF_ERROR(MakeDirectories(JoinPath(folder, subfolder)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PreparedDataset> PrepareDataset(const PrepareSpec& spec, const PrepareOutput& output,
                                               int threads, PrepareObserver& observer) {
  MOE_RETURN_IF_ERROR(CheckSpec(spec));
  MOE_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                       OpenTokenizer(spec.tokenizer_path));
  MOE_ASSIGN_OR_RETURN(const bool add_bos, ResolveAddBos(spec, *tokenizer));
  // All paths are looked at before anything is written: a mistake in the last domain is known at
  // once.
  std::vector<DocumentReader> readers;
  PrepareProgress progress;
  for (const PrepareSpec::Domain& domain : spec.domains) {
    auto reader = DocumentReader::Open(
        domain.paths, {.set = domain.set,
                       .on_bad_document = spec.on_bad_document,
                       .stop_requested = [&observer] { return observer.StopRequested(); }});
    if (!reader.ok()) return Annotate(reader.status(), "domain " + domain.name);
    progress.total_bytes += reader->total_bytes();
    readers.push_back(*std::move(reader));
  }
  MOE_RETURN_IF_ERROR(MakeFolder(output.folder));
  MOE_RETURN_IF_ERROR(WriteTokenizerFiles(tokenizer->files(), output.folder));

  PreparedDataset result;
  SeenTexts seen;  // over all domains
  Json domains = Json::array(), cards = Json::array();
  for (size_t i = 0; i < spec.domains.size(); ++i) {
    const PrepareSpec::Domain& domain = spec.domains[i];
    progress.domain = domain.name;
    observer.OnProgress(progress);
    MOE_ASSIGN_OR_RETURN(DomainShards shards,
                         DomainShards::Create(output.folder, domain.name, tokenizer->vocab_size()));
    DomainPreparer preparer(spec, domain, *tokenizer, add_bos, threads, seen, std::move(readers[i]),
                            std::move(shards));
    MOE_RETURN_IF_ERROR(preparer.Run(progress, observer));
    progress.documents += preparer.counts().documents;
    progress.bytes += preparer.counts().bytes;
    const Json metadata = preparer.Metadata();
    result.documents +=
        metadata["train_documents"].get<int64_t>() + metadata["heldout_documents"].get<int64_t>();
    result.tokens +=
        metadata["train_tokens"].get<int64_t>() + metadata["heldout_tokens"].get<int64_t>();
    domains.push_back(metadata);
    cards.push_back(preparer.Card());
  }
  const Json card = {{"format", "moe-data-card"},
                     {"version", 1},
                     {"tokenizer", spec.tokenizer_path},
                     {"add_bos", add_bos},
                     {"heldout_fraction", spec.heldout_fraction},
                     {"max_tokens_per_domain", spec.max_tokens_per_domain},
                     {"remove_duplicates", spec.remove_duplicates},
                     {"min_characters", spec.min_characters},
                     {"domains", cards}};
  MOE_RETURN_IF_ERROR(
      WriteFileAtomically(JoinPath(output.folder, "card.json"), card.dump(2) + "\n"));

  result.metadata = {{"vocab_size", tokenizer->vocab_size()},
                     {"tokenizer_crc32c", tokenizer->files().crc32c()},
                     {"domains", domains}};
  artefacts::Manifest manifest;
  manifest.kind = "dataset";
  manifest.name = output.name;
  manifest.job_id = output.job_id;
  manifest.attempt = output.attempt;
  manifest.inputs = output.inputs;
  manifest.metadata = result.metadata;
  MOE_ASSIGN_OR_RETURN(result.manifest, artefacts::WriteManifest(output.folder, manifest));
  return result;
}

}  // namespace moe::sampler
