#include "worker/model/state_files.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <iterator>
#include <utility>

#include "common/check.h"
#include "common/file.h"
#include "common/status.h"

namespace moe::model {
namespace {

using artefacts::SafetensorsFile;
using artefacts::SafetensorsWriter;
using artefacts::TensorInfo;

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
                                                                   int64_t begin, int64_t end,
                                                                   int64_t arena_numel,
                                                                   KeepAverage keep_average) {
  std::vector<SafetensorsWriter::Entry> entries;
  for (const std::string& name : StateTensors(keep_average)) {
    entries.push_back({.name = name, .dtype = artefacts::DType::kF32, .shape = {end - begin}});
  }
  return SafetensorsWriter::Create(path, entries,
                                   {{"begin", std::to_string(begin)},
                                    {"end", std::to_string(end)},
                                    {"total", std::to_string(arena_numel)}});
}

absl::StatusOr<StateFiles::Piece> StateFiles::OpenPiece(const std::string& path,
                                                        int64_t arena_numel) {
  Piece piece{.path = path, .file = {}};
  MOE_ASSIGN_OR_RETURN(piece.file, SafetensorsFile::Open(path));
  MOE_ASSIGN_OR_RETURN(piece.begin, MetadataInt(piece.file, path, "begin"));
  MOE_ASSIGN_OR_RETURN(piece.end, MetadataInt(piece.file, path, "end"));
  MOE_ASSIGN_OR_RETURN(const int64_t total, MetadataInt(piece.file, path, "total"));
  if (total != arena_numel) {
    return InvalidArgument(
        "{}: holds state of {} elements, but the model has {}: it is a checkpoint of another model",
        path, total, arena_numel);
  }
  if (piece.begin < 0 || piece.end < piece.begin || piece.end > total) {
    return InvalidArgument("{}: elements {} to {} are not a range of 0 to {}", path, piece.begin,
                           piece.end, total);
  }
  const bool has_average = piece.file.Find(kAverageTensor) != nullptr;
  for (const std::string& name :
       StateTensors(has_average ? KeepAverage::kAlways : KeepAverage::kNever)) {
    const TensorInfo* tensor = piece.file.Find(name);
    if (tensor == nullptr) return InvalidArgument("{}: tensor {} is missing", path, name);
    if (tensor->dtype != artefacts::DType::kF32 ||
        tensor->shape != std::vector<int64_t>{piece.end - piece.begin}) {
      return InvalidArgument("{}: tensor {} is not F32 [{}]", path, name, piece.end - piece.begin);
    }
  }
  return piece;
}

absl::StatusOr<StateFiles> StateFiles::Open(const std::string& folder,
                                            const std::vector<std::string>& names,
                                            int64_t arena_numel) {
  StateFiles files;
  for (const std::string& name : names) {
    MOE_ASSIGN_OR_RETURN(Piece piece, OpenPiece(JoinPath(folder, name), arena_numel));
    files.pieces_.push_back(std::move(piece));
  }
  std::sort(files.pieces_.begin(), files.pieces_.end(), [](const Piece& a, const Piece& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  int64_t covered = 0;
  for (const Piece& piece : files.pieces_) {
    if (piece.begin != covered) {
      return DataLoss("{} begins at element {}, but the files before it end at {}: elements are {}",
                      piece.path, piece.begin, covered,
                      piece.begin > covered ? "missing" : "there twice");
    }
    covered = piece.end;
  }
  files.has_average_ =
      !files.pieces_.empty() &&
      std::all_of(files.pieces_.begin(), files.pieces_.end(),
                  [](const Piece& piece) { return piece.file.Find(kAverageTensor) != nullptr; });
  if (covered != arena_numel) {
    return DataLoss("{}: the state files end at element {} of {}: a file is missing", folder,
                    covered, arena_numel);
  }
  return files;
}

void StateFiles::Read(const std::string& tensor, int64_t begin, int64_t end, float* out) const {
  for (const Piece& piece : pieces_) {
    const int64_t first = std::max(begin, piece.begin), last = std::min(end, piece.end);
    if (first >= last) continue;
    const TensorInfo* info = piece.file.Find(tensor);
    MOE_CHECK(info != nullptr);
    std::memcpy(out + (first - begin),
                piece.file.data(*info) + static_cast<size_t>(first - piece.begin) * sizeof(float),
                static_cast<size_t>(last - first) * sizeof(float));
  }
}

}  // namespace moe::model
