// What was found out about each document of a domain: documents/NAME.documents of a dataset
// (docs/formats/dataset.md). Kept for those that were dropped too, so that a filter can be moved
// without scoring the text again.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "common/file.h"
#include "sampler/append_file.h"
#include "sampler/duplicates.h"

namespace moe::sampler {

// What became of a document. On disk: do not renumber.
enum class Verdict : uint8_t {
  kKept = 0,
  kTooShort = 1,
  kTooLarge = 2,
  kLanguage = 3,
  kDuplicate = 4,
  kNearDuplicate = 5,
  kFluency = 6,
  kAdvertisement = 7,
  kNoTokens = 8,  // the vocabulary has nothing for it; counted, not recorded
};
inline constexpr std::array<const char*, 9> kVerdictNames = {
    "kept",           "too_short", "too_large",     "language", "duplicate",
    "near_duplicate", "fluency",   "advertisement", "no_tokens"};

// Whether only the quantiles of the score filters spoke against it, if anything did.
inline bool PassedRules(Verdict verdict) {
  return verdict == Verdict::kKept || verdict == Verdict::kFluency ||
         verdict == Verdict::kAdvertisement;
}

// On disk as it is here, little-endian.
struct DocumentRecord {
  TextHash hash;
  float fluency = 0;        // NaN: not scored
  float advertisement = 0;  // NaN: not scored
  uint32_t bytes = 0;       // of the text
  Verdict verdict = Verdict::kKept;
  std::array<uint8_t, 3> zero{};
};
static_assert(sizeof(DocumentRecord) == 32);

// Where the records of a domain are inside the artefact: "documents/c4.documents".
std::string RecordsPath(const std::string& domain);

class DocumentRecordWriter {
 public:
  // Goes on after `count` records; 0 makes the file.
  static absl::StatusOr<DocumentRecordWriter> Resume(const std::string& path, int64_t count);

  absl::Status Append(const DocumentRecord& record);
  absl::Status Flush() { return file_.Flush(); }
  absl::Status Sync() { return file_.Sync(); }
  int64_t count() const;

 private:
  explicit DocumentRecordWriter(AppendFile file) : file_(std::move(file)) {}
  AppendFile file_;
};

// The records of one domain, memory-mapped. Thread-safe once open.
class DocumentRecords {
 public:
  // DATA_LOSS where the file is no such file or has been cut.
  static absl::StatusOr<DocumentRecords> Open(const std::string& path);

  int64_t count() const { return count_; }
  DocumentRecord at(int64_t index) const;
  // Which models gave the scores: LinearTextModel::crc32c.
  uint32_t fluency_model() const { return fluency_model_; }
  uint32_t advertisement_model() const { return advertisement_model_; }

 private:
  MappedFile file_;
  int64_t count_ = 0;
  uint32_t fluency_model_ = 0, advertisement_model_ = 0;
};

// Overwrites the verdict of record `index`; durable after a sync of the file by its path.
class VerdictEditor {
 public:
  static absl::StatusOr<VerdictEditor> Open(const std::string& path);
  absl::Status Set(int64_t index, Verdict verdict);
  absl::Status Sync();

 private:
  VerdictEditor(std::string path, FileDescriptor fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  std::string path_;
  FileDescriptor fd_;
};

}  // namespace moe::sampler
