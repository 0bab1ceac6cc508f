#include "sampler/documents.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "common/json.h"
#include "common/status.h"
#include "sampler/utf8.h"

namespace moe::sampler {
namespace {

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

// The document in a line of JSON, or nullopt where it is not an object with one.
std::optional<std::string> TextOfLine(const std::string& line) {
  const Json object = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return std::nullopt;
  for (const char* field : {"text", "content"}) {
    const auto it = object.find(field);
    if (it != object.end() && it->is_string()) return it->get<std::string>();
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<DocumentReader> DocumentReader::Open(const std::vector<std::string>& paths) {
  DocumentReader reader;
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

absl::StatusOr<std::optional<std::string>> DocumentReader::Next() {
  for (;;) {
    if (!is_open_) {
      if (next_file_ == files_.size()) return std::nullopt;
      MOE_ASSIGN_OR_RETURN(file_, MappedFile::Open(files_[next_file_++]));
      is_open_ = true;
      offset_ = 0;
      line_ = 0;
      ++counts_.files;
    }
    std::optional<std::string> text = EndsWith(file_.path(), ".jsonl") ? NextLine() : WholeFile();
    if (text.has_value()) {
      ++counts_.documents;
      return text;
    }
    if (offset_ == file_.size()) {
      counts_.bytes += static_cast<int64_t>(file_.size());
      is_open_ = false;
    }
  }
}

std::optional<std::string> DocumentReader::WholeFile() {
  if (offset_ == file_.size() && file_.size() > 0) return std::nullopt;
  offset_ = file_.size();
  if (file_.size() > 0 && std::memchr(file_.data(), 0, file_.size()) != nullptr) {
    CountSkip(Skip::kBinary, file_.path() + ": has a zero byte, so it is not text");
    return std::nullopt;
  }
  const auto* data = reinterpret_cast<const char*>(file_.data());
  return Accept(std::string(data, file_.size()), file_.path());
}

// nullopt after each line that is no document, and at the end of the file.
std::optional<std::string> DocumentReader::NextLine() {
  if (offset_ == file_.size()) return std::nullopt;
  const uint8_t* begin = file_.data() + offset_;
  const size_t rest = file_.size() - offset_;
  const auto* end = static_cast<const uint8_t*>(std::memchr(begin, '\n', rest));
  std::string line(begin, end == nullptr ? begin + rest : end);
  offset_ += line.size() + (end == nullptr ? 0 : 1);
  const std::string place = fmt::format("{}:{}", file_.path(), ++line_);
  if (line.find_first_not_of(" \t\r") == std::string::npos) return std::nullopt;
  counts_.characters_repaired += RepairUtf8(line);
  std::optional<std::string> text = TextOfLine(line);
  if (!text.has_value()) {
    CountSkip(Skip::kBadJson, place + ": not a JSON object with \"text\" or \"content\"");
    return std::nullopt;
  }
  return Accept(*std::move(text), place);
}

std::optional<std::string> DocumentReader::Accept(std::string text, const std::string& place) {
  counts_.characters_repaired += RepairUtf8(text);
  if (text.find_first_not_of(" \t\r\n\f\v") == std::string::npos) {
    CountSkip(Skip::kEmpty, place + ": white space only");
    return std::nullopt;
  }
  return text;
}

}  // namespace moe::sampler
