#include "worker/training/checkpoint_reader.h"

#include <ATen/ops/empty.h>

#include <string>
#include <vector>

#include "common/file.h"
#include "common/huge_pages.h"
#include "common/json.h"
#include "common/status.h"
#include "storage/artefacts/direct_io.h"
#include "storage/artefacts/direct_reader.h"
#include "storage/artefacts/manifest.h"
#include "worker/model/state_files.h"
#include "worker/training/ownership.h"

namespace moe::training {
namespace {

// Room for `numel` elements whose address is that of byte `offset` of a file, up to a multiple of
// what direct reading wants, so that they are read without a copy.
at::Tensor RoomFor(int64_t numel, uint64_t offset) {
  constexpr int64_t kAlignment = artefacts::kDirectAlignment / sizeof(float);
  const at::Tensor room = at::empty({numel + kAlignment}, at::kFloat);
  AdviseHugePages(room.mutable_data_ptr(), room.nbytes());
  const auto address = reinterpret_cast<uintptr_t>(room.const_data_ptr());
  const uint64_t skipped = (offset - address) % artefacts::kDirectAlignment / sizeof(float);
  return room.narrow(0, static_cast<int64_t>(skipped), numel);
}

}  // namespace

absl::StatusOr<LoadedState> LoadCheckpoint(const std::string& path, uint32_t manifest_crc32c,
                                           const model::ParameterLayout& layout,
                                           const std::vector<parallel::Range>& owned) {
  MOE_ASSIGN_OR_RETURN(const artefacts::Manifest manifest,
                       artefacts::ReadManifest(path, &manifest_crc32c));
  MOE_RETURN_IF_ERROR(artefacts::CheckSizes(path, manifest));
  std::vector<artefacts::ManifestFile> state_files;
  std::vector<std::string> names;
  for (const artefacts::ManifestFile& file : manifest.files) {
    if (file.path == kProgressFile) MOE_RETURN_IF_ERROR(artefacts::VerifyFile(path, file));
    if (!model::IsStateFileName(file.path)) continue;
    state_files.push_back(file);
    names.push_back(file.path);
  }

  LoadedState state;
  const std::string progress_path = JoinPath(path, kProgressFile);
  MOE_ASSIGN_OR_RETURN(const Json progress, ReadJsonFile(progress_path));
  MOE_ASSIGN_OR_RETURN(state.progress, ParseProgress(progress, progress_path));

  auto opened = model::StateFiles::Open(path, names, layout.whole_numel());
  if (!opened.ok()) {
    // What does not make sense may be damaged: the checksums know.
    for (const artefacts::ManifestFile& file : state_files) {
      MOE_RETURN_IF_ERROR(artefacts::VerifyFile(path, file));
    }
    return opened.status();
  }
  const model::StateFiles files = *std::move(opened);
  std::vector<std::vector<artefacts::Destination>> destinations(names.size());  // of each file
  const auto make = [&](const char* tensor, const std::vector<parallel::Range>& ranges) {
    std::vector<model::StateFiles::Part> parts;
    for (const parallel::Range& range : ranges) {
      for (const auto& [begin, end] : layout.WholeRanges({range.begin, range.end})) {
        const auto located = files.Locate(tensor, begin, end);
        parts.insert(parts.end(), located.begin(), located.end());
      }
    }
    at::Tensor values = RoomFor(TotalNumel(ranges), parts.empty() ? 0 : parts.front().begin);
    auto* to = static_cast<uint8_t*>(values.mutable_data_ptr());
    for (const auto& [file, begin, end] : parts) {
      destinations[file].push_back({.begin = begin, .end = end, .to = to});
      to += end - begin;
    }
    return values;
  };
  std::vector<parallel::Range> all;
  for (const model::Region region : model::kRegions) {
    const auto [begin, end] = layout.RegionRange(region);
    all.push_back({begin, end});
  }
  state.parameters = make("parameters", all);
  state.exp_avg = make("exp_avg", owned);
  state.exp_avg_sq = make("exp_avg_sq", owned);
  if (files.has_average()) state.average = make(model::kAverageTensor, owned);

  // Read once: what goes to its place is what the checksum is of.
  for (size_t i = 0; i < state_files.size(); ++i) {
    MOE_RETURN_IF_ERROR(artefacts::VerifyFile(path, state_files[i], destinations[i]));
  }
  return state;
}

}  // namespace moe::training
