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
#include "sampler/json_line.h"
#include "sampler/line_reader.h"

namespace moe::sampler {

// Why something is no document; OnBadDocument decides what then happens.
enum class Skip { kEmpty, kBinary, kBadJson, kTooLong };
inline constexpr std::array<const char*, 4> kSkipNames = {"empty", "binary", "bad_json",
                                                          "too_long"};

enum class OnBadDocument { kSkip, kFail };

// A line or a file of more bytes is no document: what memory must hold.
inline constexpr size_t kMaxDocumentBytes = size_t{256} << 20;

struct ReadCounts {
  int64_t files = 0;      // begun
  int64_t bytes = 0;      // of the files read to their end
  int64_t documents = 0;  // that were returned
  int64_t characters_repaired = 0;
  int64_t other_sets = 0;  // lines that belong to another set than the one asked for
  std::array<int64_t, kSkipNames.size()> skipped{};
  std::vector<std::string> skipped_examples;  // "FILE:LINE: why"; at most kMaxSkippedExamples
  std::set<std::string> other_set_names;      // at most kMaxOtherSetNames
};
inline constexpr size_t kMaxSkippedExamples = 20;
inline constexpr size_t kMaxOtherSetNames = 20;

struct ReadOptions {
  std::string set{};  // only the lines of this set (moe.v1.DomainInput.set); "": every line
  OnBadDocument on_bad_document = OnBadDocument::kSkip;
  // Documents are the lines themselves, whatever they hold; files without lines are none.
  bool whole_lines = false;
  // Asked now and then while lines are passed over; true ends the reading with CANCELLED.
  std::function<bool()> stop_requested = nullptr;
};

// *.jsonl, *.jsonl.gz and *.jsonl.zst hold one JSON object a line, with the document in "text", or
// else in "content"; every other file is one document. Bytes that are not UTF-8 become U+FFFD and
// are counted. No documents are: white space only, files with a zero byte, lines that are no such
// object, lines and files above kMaxDocumentBytes. One file is open at a time. Not thread-safe.
class DocumentReader {
 public:
  // Between two documents; restores a reader of the same files with Seek.
  struct Cursor {
    int64_t next_file = 0;  // index of the file that is opened next
    bool in_file = false;   // whether the one before it has lines left
    int64_t line = 0;       // of that file, read so far
    int64_t bytes = 0;      // read of all files, as they are on disk
    ReadCounts counts;
  };

  struct File {
    std::string path;
    int64_t bytes = 0;  // as it is on disk
  };

  // Files are read in the order of `paths`, those of a folder recursively in sorted order; names
  // that begin with a dot are passed over. NOT_FOUND names a path that does not exist.
  static absl::StatusOr<DocumentReader> Open(const std::vector<std::string>& paths,
                                             const ReadOptions& options);

  // The next document; nullopt at the end. An error names the file that could not be read, or with
  // OnBadDocument::kFail what is no document (INVALID_ARGUMENT).
  absl::StatusOr<std::optional<std::string>> Next();

  Cursor cursor() const;
  // Costs the reading of one file up to its line. DATA_LOSS where the file has not as many lines.
  absl::Status Seek(const Cursor& cursor);

  const ReadCounts& counts() const { return counts_; }
  // "FILE:LINE" or "FILE" of the document that Next returned last.
  const std::string& place() const { return place_; }
  // A document is none after all: counts it, or with OnBadDocument::kFail INVALID_ARGUMENT.
  absl::Status Reject(Skip reason, const std::string& what);
  const std::vector<File>& files() const { return files_; }
  int64_t total_bytes() const { return total_bytes_; }  // of all files
  void set_stop_requested(std::function<bool()> ask) { options_.stop_requested = std::move(ask); }

 private:
  DocumentReader() = default;
  absl::Status OpenFile();
  absl::StatusOr<std::optional<std::string>> WholeFile();
  absl::StatusOr<std::optional<std::string>> NextLine();
  absl::StatusOr<std::optional<std::string>> Accept(std::string text, const std::string& place);
  const File& file() const { return files_[next_file_ - 1]; }  // being read

  ReadOptions options_;
  std::vector<File> files_;
  int64_t total_bytes_ = 0;
  size_t next_file_ = 0;
  bool in_file_ = false;
  std::optional<LineReader> lines_;  // of that file, where it is read by lines
  std::string line_;
  std::string place_;
  int64_t line_number_ = 0;
  int64_t steps_ = 0;  // lines and files so far
  JsonLineParser parser_;
  ReadCounts counts_;
};

}  // namespace moe::sampler
