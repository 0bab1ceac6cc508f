#include "sampler/documents.h"

#include <filesystem>

#include "common/file.h"
#include "common/json.h"
#include "common/status.h"
#include "sampler/utf8.h"

namespace moe::sampler {
namespace {

constexpr int64_t kStepsBetweenQuestions = 1024;

bool EndsWith(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

absl::Status FindFiles(const std::string& path, std::vector<std::string>& files) {
  if (!FileExists(path)) return NotFound("there is no file or folder {}", path);
  if (!std::filesystem::is_directory(path)) {
    files.push_back(path);
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

// "" where the line does not say.
std::string SetOfLine(const Json& object) {
  const Json* set = nullptr;
  if (const auto meta = object.find("meta"); meta != object.end() && meta->is_object()) {
    if (const auto it = meta->find("redpajama_set_name"); it != meta->end()) set = &*it;
  }
  if (set == nullptr) {
    if (const auto it = object.find("red_pajama_subset"); it != object.end()) set = &*it;
  }
  return set != nullptr && set->is_string() ? set->get<std::string>() : "";
}

}  // namespace

absl::StatusOr<DocumentReader> DocumentReader::Open(const std::vector<std::string>& paths,
                                                    const ReadOptions& options) {
  DocumentReader reader;
  reader.options_ = options;
  for (const std::string& path : paths) MOE_RETURN_IF_ERROR(FindFiles(path, reader.files_));
  for (const std::string& file : reader.files_) {
    MOE_ASSIGN_OR_RETURN(const uint64_t size, FileSize(file));
    reader.total_bytes_ += static_cast<int64_t>(size);
  }
  return reader;
}

void DocumentReader::CountSkip(Skip reason, const std::string& what) {
  ++counts_.skipped[static_cast<size_t>(reason)];
  if (counts_.skipped_examples.size() < kMaxSkippedExamples) {
    counts_.skipped_examples.push_back(what);
  }
}

absl::Status DocumentReader::Reject(Skip reason, const std::string& what) {
  if (options_.on_bad_document == OnBadDocument::kFail) {
    return InvalidArgument("{}; mend it, or set on_bad_document to skip", what);
  }
  CountSkip(reason, what);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::string>> DocumentReader::Next() {
  for (;;) {
    if (++steps_ % kStepsBetweenQuestions == 0 && options_.stop_requested &&
        options_.stop_requested()) {
      return Cancelled("stopped while reading {}", path_);
    }
    if (at_end_) {
      if (next_file_ == files_.size()) return std::nullopt;
      path_ = files_[next_file_++];
      at_end_ = false;
      line_number_ = 0;
      lines_.reset();
      if (IsJsonLines(path_)) {
        MOE_ASSIGN_OR_RETURN(lines_, LineReader::Open(path_, kMaxDocumentBytes));
      }
      ++counts_.files;
    }
    MOE_ASSIGN_OR_RETURN(std::optional<std::string> text,
                         lines_.has_value() ? NextLine() : WholeFile());
    if (at_end_) {
      MOE_ASSIGN_OR_RETURN(const uint64_t size, FileSize(path_));
      counts_.bytes += static_cast<int64_t>(size);
    }
    if (text.has_value()) {
      ++counts_.documents;
      return text;
    }
  }
}

absl::StatusOr<std::optional<std::string>> DocumentReader::WholeFile() {
  at_end_ = true;
  MOE_ASSIGN_OR_RETURN(const uint64_t size, FileSize(path_));
  if (size > kMaxDocumentBytes) {
    MOE_RETURN_IF_ERROR(Reject(
        Skip::kTooLong,
        fmt::format("{}: {} bytes; a document has at most {}", path_, size, kMaxDocumentBytes)));
    return std::nullopt;
  }
  MOE_ASSIGN_OR_RETURN(std::string text, ReadFile(path_));
  if (text.find('\0') != std::string::npos) {
    MOE_RETURN_IF_ERROR(Reject(Skip::kBinary, path_ + ": has a zero byte, so it is not text"));
    return std::nullopt;
  }
  return Accept(std::move(text), path_);
}

// nullopt after each line that is no document, and at the end of the file.
absl::StatusOr<std::optional<std::string>> DocumentReader::NextLine() {
  MOE_ASSIGN_OR_RETURN(const LineReader::Line kind, lines_->Next(line_));
  if (kind == LineReader::Line::kEndOfFile) {
    at_end_ = true;
    return std::nullopt;
  }
  const std::string place = fmt::format("{}:{}", path_, ++line_number_);
  if (kind == LineReader::Line::kTooLong) {
    MOE_RETURN_IF_ERROR(Reject(
        Skip::kTooLong, fmt::format("{}: a line of more than {} bytes", place, kMaxDocumentBytes)));
    return std::nullopt;
  }
  if (line_.find_first_not_of(" \t\r") == std::string::npos) return std::nullopt;
  counts_.characters_repaired += RepairUtf8(line_);
  const Json object = Json::parse(line_, nullptr, /*allow_exceptions=*/false);
  if (object.is_object() && !options_.set.empty()) {
    const std::string set = SetOfLine(object);
    if (set != options_.set) {
      ++counts_.other_sets;
      if (other_sets_.size() < 20) other_sets_.insert(set);
      return std::nullopt;
    }
  }
  for (const char* field : {"text", "content"}) {
    if (!object.is_object()) break;
    const auto it = object.find(field);
    if (it != object.end() && it->is_string()) return Accept(it->get<std::string>(), place);
  }
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
  return text;
}

}  // namespace moe::sampler
