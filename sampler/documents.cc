#include "sampler/documents.h"

#include <filesystem>

#include "common/file.h"
#include "common/status.h"
#include "sampler/utf8.h"
#include "storage/artefacts/text_file.h"

namespace moe::sampler {
namespace {

constexpr int64_t kStepsBetweenQuestions = 1024;

bool EndsWith(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

absl::Status FindFiles(const std::string& path, std::vector<DocumentReader::File>& files) {
  if (!FileExists(path)) return NotFound("there is no file or folder {}", path);
  if (!std::filesystem::is_directory(path)) {
    MOE_RETURN_IF_ERROR(artefacts::CheckTextFile(path));
    MOE_ASSIGN_OR_RETURN(const uint64_t size, FileSize(path));
    files.push_back({path, static_cast<int64_t>(size)});
    return absl::OkStatus();
  }
  MOE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(path));
  for (const std::string& name : names) {
    if (name[0] != '.') MOE_RETURN_IF_ERROR(FindFiles(JoinPath(path, name), files));
  }
  return absl::OkStatus();
}

bool IsJsonLines(const std::string& path) {
  return EndsWith(path, ".jsonl") || EndsWith(path, ".jsonl.gz") || EndsWith(path, ".jsonl.zst");
}

}  // namespace

absl::StatusOr<DocumentReader> DocumentReader::Open(const std::vector<std::string>& paths,
                                                    const ReadOptions& options) {
  DocumentReader reader;
  reader.options_ = options;
  for (const std::string& path : paths) MOE_RETURN_IF_ERROR(FindFiles(path, reader.files_));
  for (const File& file : reader.files_) reader.total_bytes_ += file.bytes;
  return reader;
}

DocumentReader::Cursor DocumentReader::cursor() const {
  int64_t bytes = counts_.bytes;
  if (in_file_ && lines_.has_value()) bytes += std::min(lines_->bytes_read(), file().bytes);
  return {.next_file = static_cast<int64_t>(next_file_),
          .in_file = in_file_,
          .line = line_number_,
          .bytes = bytes,
          .counts = counts_};
}

absl::Status DocumentReader::Seek(const Cursor& cursor) {
  if (cursor.next_file < (cursor.in_file ? 1 : 0) ||
      cursor.next_file > static_cast<int64_t>(files_.size())) {
    return InvalidArgument("a place in file {} of {}", cursor.next_file, files_.size());
  }
  next_file_ = static_cast<size_t>(cursor.next_file);
  in_file_ = false;
  if (cursor.in_file) {
    --next_file_;
    MOE_RETURN_IF_ERROR(OpenFile());
    for (; line_number_ < cursor.line; ++line_number_) {
      MOE_ASSIGN_OR_RETURN(const LineReader::Line kind, lines_->Next(line_));
      if (kind == LineReader::Line::kEndOfFile) {
        return DataLoss("{} has {} lines, and {} were read of it", file().path, line_number_,
                        cursor.line);
      }
    }
  }
  counts_ = cursor.counts;
  return absl::OkStatus();
}

absl::Status DocumentReader::Reject(Skip reason, const std::string& what) {
  if (options_.on_bad_document == OnBadDocument::kFail) {
    return InvalidArgument("{}; mend it, or set on_bad_document to skip", what);
  }
  ++counts_.skipped[static_cast<size_t>(reason)];
  if (counts_.skipped_examples.size() < kMaxSkippedExamples) {
    counts_.skipped_examples.push_back(what);
  }
  return absl::OkStatus();
}

absl::Status DocumentReader::OpenFile() {
  ++next_file_;
  in_file_ = true;
  line_number_ = 0;
  lines_.reset();
  if (IsJsonLines(file().path)) {
    MOE_ASSIGN_OR_RETURN(lines_, LineReader::Open(file().path, kMaxDocumentBytes));
  }
  ++counts_.files;
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::string>> DocumentReader::Next() {
  for (;;) {
    if (++steps_ % kStepsBetweenQuestions == 0 && options_.stop_requested &&
        options_.stop_requested()) {
      return Cancelled("stopped while reading {}", in_file_ ? file().path : "");
    }
    if (!in_file_) {
      if (next_file_ == files_.size()) return std::nullopt;
      MOE_RETURN_IF_ERROR(OpenFile());
    }
    MOE_ASSIGN_OR_RETURN(std::optional<std::string> text,
                         lines_.has_value() ? NextLine() : WholeFile());
    if (!in_file_) counts_.bytes += file().bytes;
    if (text.has_value()) {
      ++counts_.documents;
      return text;
    }
  }
}

absl::StatusOr<std::optional<std::string>> DocumentReader::WholeFile() {
  in_file_ = false;
  const auto& [path, size] = file();
  if (options_.whole_lines) {
    MOE_RETURN_IF_ERROR(Reject(
        Skip::kBadJson, path + ": not a file of JSON lines (.jsonl, .jsonl.gz, .jsonl.zst)"));
    return std::nullopt;
  }
  if (static_cast<uint64_t>(size) > kMaxDocumentBytes) {
    MOE_RETURN_IF_ERROR(Reject(
        Skip::kTooLong,
        fmt::format("{}: {} bytes; a document has at most {}", path, size, kMaxDocumentBytes)));
    return std::nullopt;
  }
  MOE_ASSIGN_OR_RETURN(std::string text, ReadFile(path));
  if (text.find('\0') != std::string::npos) {
    MOE_RETURN_IF_ERROR(Reject(Skip::kBinary, path + ": has a zero byte, so it is not text"));
    return std::nullopt;
  }
  return Accept(std::move(text), path);
}

// nullopt after each line that is no document, and at the end of the file.
absl::StatusOr<std::optional<std::string>> DocumentReader::NextLine() {
  MOE_ASSIGN_OR_RETURN(const LineReader::Line kind, lines_->Next(line_));
  if (kind == LineReader::Line::kEndOfFile) {
    in_file_ = false;
    return std::nullopt;
  }
  const std::string place = fmt::format("{}:{}", file().path, ++line_number_);
  if (kind == LineReader::Line::kTooLong) {
    MOE_RETURN_IF_ERROR(Reject(
        Skip::kTooLong, fmt::format("{}: a line of more than {} bytes", place, kMaxDocumentBytes)));
    return std::nullopt;
  }
  if (line_.find_first_not_of(" \t\r") == std::string::npos) return std::nullopt;
  if (options_.whole_lines) return Accept(line_, place);
  counts_.characters_repaired += RepairUtf8(line_);
  JsonLine parsed = parser_.Parse(line_, /*with_set=*/!options_.set.empty());
  if (parsed.is_object && !options_.set.empty() && parsed.set != options_.set) {
    ++counts_.other_sets;
    if (counts_.other_set_names.size() < kMaxOtherSetNames) {
      counts_.other_set_names.insert(parsed.set);
    }
    return std::nullopt;
  }
  if (parsed.text.has_value()) return Accept(*std::move(parsed.text), place);
  MOE_RETURN_IF_ERROR(
      Reject(Skip::kBadJson, place + ": not a JSON object with \"text\" or \"content\""));
  return std::nullopt;
}

absl::StatusOr<std::optional<std::string>> DocumentReader::Accept(std::string text,
                                                                  const std::string& place) {
  counts_.characters_repaired += RepairUtf8(text);
  if (text.find_first_not_of(" \t\r\n\f\v") == std::string::npos) {
    MOE_RETURN_IF_ERROR(Reject(Skip::kEmpty, place + ": white space only"));
    return std::nullopt;
  }
  place_ = place;
  return text;
}

}  // namespace moe::sampler
