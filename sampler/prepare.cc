#include "sampler/prepare.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "common/crash_point.h"
#include "common/crc32c.h"
#include "common/file.h"
#include "common/status.h"
#include "sampler/conversation_preparer.h"
#include "sampler/dataset.h"
#include "sampler/dataset_folder.h"
#include "sampler/domain_preparer.h"
#include "sampler/filters/linear_text_model.h"
#include "sampler/prepare_progress.h"
#include "sampler/selection.h"
#include "sampler/tokenizer/tokenizer.h"

namespace moe::sampler {
namespace {

namespace fs = std::filesystem;

// Part of the fingerprint: raised where the same spec and text would give other bytes.
constexpr int kRecipe = 1;

constexpr char kSignaturesFile[] = "signatures";

// Held as long as the descriptor is open: two processes never write to one work folder.
absl::StatusOr<FileDescriptor> Lock(const std::string& folder) {
  const std::string path = JoinPath(folder, "lock");
  FileDescriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot create " + path);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoStatus(errno, "cannot lock " + path);
    return Unavailable("another process still prepares this dataset in {}", folder);
  }
  return fd;
}

absl::Status MakeWorkFolders(const std::string& folder) {
  for (const char* name : {"train", "heldout", "documents"}) {
    MOE_RETURN_IF_ERROR(MakeDirectories(JoinPath(folder, name)));
  }
  return absl::OkStatus();
}

absl::Status EmptyWorkFolder(const std::string& folder) {
  // First what makes the rest count.
  MOE_RETURN_IF_ERROR(RemoveTree(JoinPath(folder, "progress.json")));
  for (const char* name : {"train", "heldout", "documents", kSignaturesFile}) {
    MOE_RETURN_IF_ERROR(RemoveTree(JoinPath(folder, name)));
  }
  return MakeWorkFolders(folder);
}

class Preparation {
 public:
  Preparation(const PrepareSpec& spec, const PrepareOutput& output, const PrepareOptions& options,
              PrepareObserver& observer)
      : spec_(spec), output_(output), options_(options), observer_(observer) {}

  absl::StatusOr<PreparedDataset> Run() {
    MOE_RETURN_IF_ERROR(CheckSpec(spec_));
    MOE_ASSIGN_OR_RETURN(tokenizer_, OpenTokenizer(spec_.tokenizer_path));
    MOE_ASSIGN_OR_RETURN(add_bos_, ResolveAddBos(spec_, *tokenizer_));
    if (spec_.conversations.has_value()) {
      MOE_ASSIGN_OR_RETURN(encoding_, FindEncoding(*spec_.conversations, *tokenizer_));
    }
    MOE_RETURN_IF_ERROR(LookAtFiles());
    if (!spec_.scores_from.empty()) {
      MOE_ASSIGN_OR_RETURN(known_scores_, KnownScores::Open(spec_.scores_from));
    }
    MOE_RETURN_IF_ERROR(MakeDatasetFolder(output_.folder));
    MOE_RETURN_IF_ERROR(MakeDirectories(output_.work_folder));
    MOE_ASSIGN_OR_RETURN(const FileDescriptor lock, Lock(output_.work_folder));
    MOE_RETURN_IF_ERROR(PrepareDomains());
    return Publish();
  }

 private:
  // How often a domain's files are read.
  int64_t Passes(const PrepareSpec::Domain& domain) const {
    return RulesOf(spec_, domain.name).has_filters() ? 2 : 1;
  }

  // Sizes for the progress, and the fingerprint.
  absl::Status LookAtFiles() {
    Json files = Json::array();
    for (const PrepareSpec::Domain& domain : spec_.domains) {
      const auto reader = DocumentReader::Open(domain.paths, {});
      if (!reader.ok()) return Annotate(reader.status(), "domain " + domain.name);
      domain_bytes_.push_back(reader->total_bytes());
      total_bytes_ += Passes(domain) * reader->total_bytes();
      for (const DocumentReader::File& file : reader->files()) {
        std::error_code error;
        const auto time = fs::last_write_time(file.path, error);
        files.push_back({file.path, file.bytes, error ? 0 : time.time_since_epoch().count()});
      }
      files.push_back({domain.name, domain.set});
    }
    Json all = {{"recipe", kRecipe},
                {"spec", CardOf(spec_)},
                {"scores_from", spec_.scores_from},
                {"fail", spec_.on_bad_document == OnBadDocument::kFail},
                {"tokenizer", tokenizer_->files().crc32c()},
                {"vocab_size", tokenizer_->vocab_size()},
                {"add_bos", add_bos_},
                {"batch_bytes", options_.batch_bytes},
                {"models", {FluencyModel().crc32c(), AdvertisementModel().crc32c()}},
                {"files", files}};
    if (encoding_.has_value()) all["conversations"] = CardOf(*encoding_);
    const std::string text = all.dump();
    const TextHash hash = HashOf(text);
    fingerprint_ = fmt::format("{:016x}{:016x}", hash.high, hash.low);
    return absl::OkStatus();
  }

  // What an earlier process left, or a new start.
  absl::StatusOr<PrepareProgressFile> FindProgress() {
    absl::StatusOr<std::optional<PrepareProgressFile>> found =
        PrepareProgressFile::Load(output_.work_folder);
    std::string why;
    if (!found.ok()) {
      why = Message(found.status());
    } else if (found->has_value()) {
      if ((*found)->fingerprint == fingerprint_) return **std::move(found);
      why = "the text, the tokenizer or the programs changed";
    }
    if (!why.empty()) observer_.OnRestart(why);
    MOE_RETURN_IF_ERROR(EmptyWorkFolder(output_.work_folder));
    return PrepareProgressFile{.fingerprint = fingerprint_};
  }

  absl::Status PrepareDomains() {
    MOE_ASSIGN_OR_RETURN(progress_, FindProgress());
    const bool resumed = !progress_.domains.empty();
    if (resumed) observer_.OnResume(Progress());
    const absl::Status status = GoOn();
    if (!resumed || !absl::IsDataLoss(status)) return status;
    // The files hold less than what was counted: a disk that forgot what it had synced.
    observer_.OnRestart(Message(status));
    MOE_RETURN_IF_ERROR(EmptyWorkFolder(output_.work_folder));
    progress_ = {.fingerprint = fingerprint_};
    return GoOn();
  }

  absl::Status GoOn() {
    MOE_RETURN_IF_ERROR(MakeWorkFolders(output_.work_folder));
    MOE_ASSIGN_OR_RETURN(
        PassedDocuments passed,
        PassedDocuments::Open(spec_, JoinPath(output_.work_folder, kSignaturesFile),
                              progress_.signatures));
    for (size_t i = 0; i < progress_.domains.size(); ++i) {
      if (progress_.domains[i].records == 0) continue;
      MOE_ASSIGN_OR_RETURN(
          const DocumentRecords records,
          DocumentRecords::Open(JoinPath(output_.work_folder, RecordsPath(spec_.domains[i].name))));
      if (records.count() < progress_.domains[i].records) {
        return DataLoss("the records of {} are cut short", spec_.domains[i].name);
      }
      passed.Restore(records, progress_.domains[i].records);
    }
    const PrepareJob job = {
        .spec = spec_,
        .tokenizer = *tokenizer_,
        .add_bos = add_bos_,
        .folder = output_.work_folder,
        .threads = options_.threads,
        .batch_bytes = options_.batch_bytes,
        .checkpoint_bytes = options_.checkpoint_bytes,
        .known_scores = known_scores_,
        .passed = passed,
        .stop_requested = [this] { return observer_.StopRequested(); },
        .on_progress =
            [this](const DomainProgress& domain) {
              progress_.domains.back() = domain;
              observer_.OnProgress(Progress());
            },
        .save =
            [this, &passed](const DomainProgress& domain) {
              progress_.domains.back() = domain;
              progress_.signatures = passed.signatures();
              return progress_.Save(output_.work_folder);
            },
    };
    if (progress_.domains.empty()) progress_.domains.emplace_back();
    for (;;) {
      const size_t i = progress_.domains.size() - 1;
      if (progress_.domains[i].stage != DomainProgress::Stage::kDone) {
        MOE_RETURN_IF_ERROR(PrepareDomain(job, i));
      }
      if (i + 1 == spec_.domains.size()) return absl::OkStatus();
      progress_.domains.emplace_back();
    }
  }

  absl::Status PrepareDomain(const PrepareJob& job, size_t i) {
    const PrepareSpec::Domain& domain = spec_.domains[i];
    if (encoding_.has_value()) {
      return ConversationPreparer(job, *encoding_, domain, progress_.domains[i]).Run();
    }
    return DomainPreparer(job, domain, progress_.domains[i]).Run();
  }

  PrepareProgress Progress() const {
    PrepareProgress sum = {.total_bytes = total_bytes_};
    for (size_t i = 0; i < progress_.domains.size(); ++i) {
      const DomainProgress& domain = progress_.domains[i];
      sum.documents += domain.cursor.counts.documents;
      const bool second_pass = domain.stage == DomainProgress::Stage::kWrite;
      sum.bytes += domain.stage == DomainProgress::Stage::kDone
                       ? Passes(spec_.domains[i]) * domain_bytes_[i]
                       : domain.cursor.bytes + (second_pass ? domain_bytes_[i] : 0);
      sum.phase = (domain.stage == DomainProgress::Stage::kSelect ? "scoring " : "tokenizing ") +
                  spec_.domains[i].name;
    }
    return sum;
  }

  // What of a finished domain belongs to the dataset.
  std::vector<std::string> FilesOf(const std::string& domain) const {
    std::vector<std::string> files = {ShardPath(Split::kTrain, domain),
                                      ShardPath(Split::kHeldout, domain)};
    if (encoding_.has_value()) {
      files.push_back(TargetMaskPath(Split::kTrain, domain));
      files.push_back(TargetMaskPath(Split::kHeldout, domain));
    } else {
      files.push_back(RecordsPath(domain));
    }
    return files;
  }

  // The finished files under the output's name. They are linked, not moved: what is in the work
  // folder stays good for another attempt until the dataset is in the catalogue.
  absl::Status LinkFiles() {
    for (const PrepareSpec::Domain& domain : spec_.domains) {
      for (const std::string& file : FilesOf(domain.name)) {
        const std::string to = JoinPath(output_.folder, file);
        MOE_RETURN_IF_ERROR(MakeDirectories(fs::path(to).parent_path()));
        std::error_code error;
        fs::create_hard_link(JoinPath(output_.work_folder, file), to, error);
        if (error) return ErrnoStatus(error.value(), "cannot link " + to);
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<PreparedDataset> Publish() {
    MOE_RETURN_IF_ERROR(LinkFiles());
    CrashPoint("prepare_linked");
    MOE_RETURN_IF_ERROR(WriteTokenizerFiles(tokenizer_->files(), output_.folder));
    PreparedDataset result;
    Json domains = Json::array(), cards = Json::array();
    for (size_t i = 0; i < spec_.domains.size(); ++i) {
      const DomainProgress& domain = progress_.domains[i];
      result.documents += domain.train.documents + domain.heldout.documents;
      result.tokens += domain.train.tokens + domain.heldout.tokens;
      const bool chat = encoding_.has_value();
      domains.push_back(chat ? ConversationMetadataOf(spec_.domains[i], domain)
                             : MetadataOf(spec_.domains[i], domain));
      cards.push_back(chat ? ConversationCardOf(spec_.domains[i], domain)
                           : CardOf(spec_.domains[i], domain));
    }
    Json card = CardOf(spec_);
    card.update({{"format", "moe-data-card"},
                 {"version", 2},
                 {"tokenizer", spec_.tokenizer_path},
                 {"add_bos", add_bos_},
                 {"domains", cards}});
    if (encoding_.has_value()) card["conversations"] = CardOf(*encoding_);
    MOE_RETURN_IF_ERROR(
        WriteFileAtomically(JoinPath(output_.folder, "card.json"), card.dump(2) + "\n"));

    result.metadata = {{"vocab_size", tokenizer_->vocab_size()},
                       {"tokenizer_crc32c", tokenizer_->files().crc32c()},
                       {"domains", domains},
                       {"table", TableOf(spec_.domains, progress_.domains)}};
    if (encoding_.has_value()) {
      result.metadata["conversations"] = {{"template", encoding_->chat.name},
                                          {"max_tokens", encoding_->max_tokens}};
    }
    artefacts::Manifest manifest;
    manifest.kind = "dataset";
    manifest.name = output_.name;
    manifest.job_id = output_.job_id;
    manifest.attempt = output_.attempt;
    manifest.inputs = output_.inputs;
    manifest.metadata = result.metadata;
    MOE_ASSIGN_OR_RETURN(result.manifest, artefacts::WriteManifest(output_.folder, manifest));
    return result;
  }

  const PrepareSpec& spec_;
  const PrepareOutput& output_;
  const PrepareOptions& options_;
  PrepareObserver& observer_;

  std::unique_ptr<Tokenizer> tokenizer_;
  bool add_bos_ = false;
  std::optional<ConversationEncoding> encoding_;  // where the text is conversations
  KnownScores known_scores_;
  std::vector<int64_t> domain_bytes_;  // of its files
  int64_t total_bytes_ = 0;            // to read
  std::string fingerprint_;
  PrepareProgressFile progress_;
};

}  // namespace

absl::StatusOr<PreparedDataset> PrepareDataset(const PrepareSpec& spec, const PrepareOutput& output,
                                               const PrepareOptions& options,
                                               PrepareObserver& observer) {
  return Preparation(spec, output, options, observer).Run();
}

}  // namespace moe::sampler
