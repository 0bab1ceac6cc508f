#include "worker/model/state_files.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <iterator>
#include <map>
#include <utility>

#include "common/check.h"
#include "common/file.h"
#include "common/status.h"

namespace moe::model {
namespace {

using artefacts::SafetensorsFile;
using artefacts::SafetensorsWriter;
using artefacts::TensorInfo;

using Range = ParameterLayout::Range;

absl::StatusOr<int64_t> MetadataInt(const SafetensorsFile& file, const std::string& path,
                                    const std::string& key) {
  const auto it = file.metadata().find(key);
  const std::string text = it == file.metadata().end() ? "" : it->second;
  int64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) {
    return InvalidArgument("{}: __metadata__.{}: expected an integer, got \"{}\"", path, key, text);
  }
  return value;
}

constexpr char kRanges[] = "ranges";

// "0-128,256-512"
std::string RangesText(const std::vector<Range>& ranges) {
  std::string text;
  for (const Range& range : ranges) {
    text += fmt::format("{}{}-{}", text.empty() ? "" : ",", range.begin, range.end);
  }
  return text;
}

absl::StatusOr<std::vector<Range>> ParseRanges(const std::string& text, const std::string& path) {
  std::vector<Range> ranges;
  const char *next = text.data(), *const end = text.data() + text.size();
  const auto read = [&next, end](int64_t& value) {
    const auto parsed = std::from_chars(next, end, value);
    next = parsed.ptr;
    return parsed.ec == std::errc();
  };
  const auto skip = [&next, end](char expected) { return next != end && *next++ == expected; };
  do {
    Range& range = ranges.emplace_back();
    if (!read(range.begin) || !skip('-') || !read(range.end)) {
      return InvalidArgument("{}: __metadata__.{}: expected ranges like 0-128,256-512, got \"{}\"",
                             path, kRanges, text);
    }
  } while (skip(','));
  if (next != end) {
    return InvalidArgument("{}: __metadata__.{}: \"{}\" does not end after a range", path, kRanges,
                           text);
  }
  return ranges;
}

// The ranges of a file; checkpoints of one range say so in numbers of their own.
absl::StatusOr<std::vector<Range>> RangesOf(const SafetensorsFile& file, const std::string& path) {
  if (const auto it = file.metadata().find(kRanges); it != file.metadata().end()) {
    return ParseRanges(it->second, path);
  }
  Range range;
  MOE_ASSIGN_OR_RETURN(range.begin, MetadataInt(file, path, "begin"));
  MOE_ASSIGN_OR_RETURN(range.end, MetadataInt(file, path, "end"));
  return std::vector<Range>{range};
}

int64_t NumelOf(const std::vector<Range>& ranges) {
  int64_t numel = 0;
  for (const Range& range : ranges) numel += range.end - range.begin;
  return numel;
}

}  // namespace

std::string StateFileName(int rank, int world_size) {
  return fmt::format("state-{:05d}-of-{:05d}.safetensors", rank, world_size);
}

bool IsStateFileName(const std::string& name) {
  return name.starts_with("state-") && name.ends_with(".safetensors");
}

std::vector<std::string> StateTensors(KeepAverage keep_average) {
  std::vector<std::string> names(std::begin(kStateTensors), std::end(kStateTensors));
  if (keep_average == KeepAverage::kAlways) names.push_back(kAverageTensor);
  return names;
}

absl::StatusOr<std::unique_ptr<SafetensorsWriter>> CreateStateFile(const std::string& path,
                                                                   const std::vector<Range>& ranges,
                                                                   int64_t arena_numel,
                                                                   KeepAverage keep_average) {
  std::vector<SafetensorsWriter::Entry> entries;
  for (const std::string& name : StateTensors(keep_average)) {
    entries.push_back({.name = name, .dtype = artefacts::DType::kF32, .shape = {NumelOf(ranges)}});
  }
  std::map<std::string, std::string> metadata = {{"total", std::to_string(arena_numel)}};
  if (ranges.size() == 1) {
    metadata["begin"] = std::to_string(ranges[0].begin);
    metadata["end"] = std::to_string(ranges[0].end);
  } else {
    metadata[kRanges] = RangesText(ranges);
  }
  // A checkpoint that turns out to be damaged is left for the one before it.
  return SafetensorsWriter::Create(path, entries, metadata, artefacts::ReadBack::kNever);
}

absl::Status StateFiles::Add(const std::string& path, int64_t arena_numel) {
  MOE_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(path));
  MOE_ASSIGN_OR_RETURN(const std::vector<Range> ranges, RangesOf(file, path));
  MOE_ASSIGN_OR_RETURN(const int64_t total, MetadataInt(file, path, "total"));
  if (total != arena_numel) {
    return InvalidArgument(
        "{}: holds state of {} elements, but the model has {}: it is a checkpoint of another model",
        path, total, arena_numel);
  }
  int64_t numel = 0;
  for (const Range& range : ranges) {
    if (range.begin < 0 || range.end < range.begin || range.end > total) {
      return InvalidArgument("{}: elements {} to {} are not a range of 0 to {}", path, range.begin,
                             range.end, total);
    }
    pieces_.push_back({.range = range, .file = files_.size(), .first = numel});
    numel += range.end - range.begin;
  }
  const bool has_average = file.Find(kAverageTensor) != nullptr;
  for (const std::string& name :
       StateTensors(has_average ? KeepAverage::kAlways : KeepAverage::kNever)) {
    const TensorInfo* tensor = file.Find(name);
    if (tensor == nullptr) return InvalidArgument("{}: tensor {} is missing", path, name);
    if (tensor->dtype != artefacts::DType::kF32 || tensor->shape != std::vector<int64_t>{numel}) {
      return InvalidArgument("{}: tensor {} is not F32 [{}]", path, name, numel);
    }
  }
  files_.push_back({path, std::move(file)});
  return absl::OkStatus();
}

absl::StatusOr<StateFiles> StateFiles::Open(const std::string& folder,
                                            const std::vector<std::string>& names,
                                            int64_t arena_numel) {
  StateFiles files;
  for (const std::string& name : names) {
    MOE_RETURN_IF_ERROR(files.Add(JoinPath(folder, name), arena_numel));
  }
  std::sort(files.pieces_.begin(), files.pieces_.end(), [](const Piece& a, const Piece& b) {
    return std::pair(a.range.begin, a.range.end) < std::pair(b.range.begin, b.range.end);
  });
  int64_t covered = 0;
  for (const Piece& piece : files.pieces_) {
    const int64_t begin = piece.range.begin;
    if (begin != covered) {
      return DataLoss("{} begins at element {}, but the files before it end at {}: elements are {}",
                      files.files_[piece.file].path, begin, covered,
                      begin > covered ? "missing" : "there twice");
    }
    covered = piece.range.end;
  }
  files.has_average_ = !files.files_.empty() &&
                       std::all_of(files.files_.begin(), files.files_.end(), [](const File& file) {
                         return file.file.Find(kAverageTensor) != nullptr;
                       });
  if (covered != arena_numel) {
    return DataLoss("{}: the state files end at element {} of {}: a file is missing", folder,
                    covered, arena_numel);
  }
  return files;
}

std::vector<StateFiles::Part> StateFiles::Locate(const std::string& tensor, int64_t begin,
                                                 int64_t end) const {
  std::vector<Part> parts;
  for (const Piece& piece : pieces_) {
    const int64_t first = std::max(begin, piece.range.begin);
    const int64_t last = std::min(end, piece.range.end);
    if (first >= last) continue;
    const TensorInfo* info = files_[piece.file].file.Find(tensor);
    MOE_CHECK(info != nullptr);
    const auto byte = [&](int64_t element) {
      const int64_t offset = piece.first + element - piece.range.begin;
      return info->offset + static_cast<uint64_t>(offset) * sizeof(float);
    };
    parts.push_back({.file = piece.file, .begin = byte(first), .end = byte(last)});
  }
  return parts;
}

void StateFiles::Read(const std::string& tensor, int64_t begin, int64_t end, float* out) const {
  auto* to = reinterpret_cast<uint8_t*>(out);
  for (const Part& part : Locate(tensor, begin, end)) {
    std::memcpy(to, files_[part.file].file.bytes() + part.begin, part.end - part.begin);
    to += part.end - part.begin;
  }
}

}  // namespace moe::model
