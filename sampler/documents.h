// The documents of one domain, read from files.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sampler/line_reader.h"

namespace moe::sampler {

// Why something did not become a document. Of the first four kinds, which are no documents at all,
// OnBadDocument decides; the others are dropped as the spec asks.
enum class Skip { kEmpty, kBinary, kBadJson, kTooLong, kDuplicate, kTooShort };
inline constexpr std::array<const char*, 6> kSkipNames = {"empty",    "binary",    "bad_json",
                                                          "too_long", "duplicate", "too_short"};

enum class OnBadDocument { kSkip, kFail };

// A line or a file of more bytes is no document: what memory must hold.
inline constexpr size_t kMaxDocumentBytes = size_t{256} << 20;

struct ReadCounts {
  int64_t files = 0;
  int64_t bytes = 0;      // of the files
  int64_t documents = 0;  // that were returned
  int64_t characters_repaired = 0;
  int64_t other_sets = 0;  // lines that belong to another set than the one asked for
  std::array<int64_t, kSkipNames.size()> skipped{};
  std::vector<std::string> skipped_examples;  // "FILE:LINE: why"; at most kMaxSkippedExamples
};
inline constexpr size_t kMaxSkippedExamples = 20;

struct ReadOptions {
  std::string set{};  // only the lines of this set (moe.v1.DomainInput.set); "": every line
  OnBadDocument on_bad_document = OnBadDocument::kSkip;
  // Asked now and then while lines are passed over; true ends the reading with CANCELLED.
  std::function<bool()> stop_requested = nullptr;
};

// *.jsonl, *.jsonl.gz and *.jsonl.zst hold one JSON object a line, with the document in "text", or
// else in "content"; every other file is one document. Bytes that are not UTF-8 become U+FFFD and
// are counted. No documents are: white space only, files with a zero byte, lines that are no such
// object, lines and files above kMaxDocumentBytes. One file is open at a time. Not thread-safe.
class DocumentReader {
 public:
  // Files are read in the order of `paths`, those of a folder recursively in sorted order; names
  // that begin with a dot are passed over. NOT_FOUND names a path that does not exist.
  static absl::StatusOr<DocumentReader> Open(const std::vector<std::string>& paths,
                                             const ReadOptions& options);

  // The next document; nullopt at the end. An error names the file that could not be read, or with
  // OnBadDocument::kFail what is no document (INVALID_ARGUMENT).
  absl::StatusOr<std::optional<std::string>> Next();

  const ReadCounts& counts() const { return counts_; }
  int64_t total_bytes() const { return total_bytes_; }  // of all files, as they are on disk
  // Up to 20 names of sets that were met and not asked for, for messages.
  const std::set<std::string>& other_sets() const { return other_sets_; }
  // Notes that a document is dropped.
  void CountSkip(Skip reason, const std::string& what);

 private:
  DocumentReader() = default;
  absl::StatusOr<std::optional<std::string>> WholeFile();
  absl::StatusOr<std::optional<std::string>> NextLine();
  absl::StatusOr<std::optional<std::string>> Accept(std::string text, const std::string& place);
  absl::Status Reject(Skip reason, const std::string& what);

  ReadOptions options_;
  std::vector<std::string> files_;
  int64_t total_bytes_ = 0;
  size_t next_file_ = 0;
  std::string path_;                 // of the file being read
  bool at_end_ = true;               // of that file
  std::optional<LineReader> lines_;  // of that file, where it is read by lines
  std::string line_;
  int64_t line_number_ = 0;
  int64_t steps_ = 0;  // lines and files so far
  std::set<std::string> other_sets_;
  ReadCounts counts_;
};

}  // namespace moe::sampler
