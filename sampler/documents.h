// The documents of one domain, read from files.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/file.h"

namespace moe::sampler {

// Why something was no document.
enum class Skip { kEmpty, kBinary, kBadJson };
inline constexpr std::array<const char*, 3> kSkipNames = {"empty", "binary", "bad_json"};

struct ReadCounts {
  int64_t files = 0;
  int64_t bytes = 0;      // of the files
  int64_t documents = 0;  // that were returned
  int64_t characters_repaired = 0;
  std::array<int64_t, kSkipNames.size()> skipped{};
  std::vector<std::string> skipped_examples;  // "FILE:LINE: why"; at most kMaxSkippedExamples
};
inline constexpr size_t kMaxSkippedExamples = 20;

// *.jsonl holds one JSON object a line, with the document in "text", or else in "content"; every
// other file is one document. Bytes that are not UTF-8 become U+FFFD and are counted. Skipped,
// counted and listed: documents of white space only, files with a zero byte, lines that are no such
// object. One file is open at a time. Not thread-safe.
class DocumentReader {
 public:
  // Files are read in the order of `paths`, those of a folder recursively in sorted order; names
  // that begin with a dot are passed over. NOT_FOUND names a path that does not exist.
  static absl::StatusOr<DocumentReader> Open(const std::vector<std::string>& paths);

  // The next document; nullopt at the end. An error names the file that could not be read.
  absl::StatusOr<std::optional<std::string>> Next();

  const ReadCounts& counts() const { return counts_; }
  int64_t total_bytes() const { return total_bytes_; }  // of all files
  // Notes that something is no document after all.
  void CountSkip(Skip reason, const std::string& what);

 private:
  DocumentReader() = default;
  std::optional<std::string> NextLine();
  std::optional<std::string> WholeFile();
  std::optional<std::string> Accept(std::string text, const std::string& place);

  std::vector<std::string> files_;
  int64_t total_bytes_ = 0;
  size_t next_file_ = 0;
  MappedFile file_;  // the one being read
  bool is_open_ = false;
  size_t offset_ = 0;  // in file_
  int64_t line_ = 0;
  ReadCounts counts_;
};

}  // namespace moe::sampler
