#include "worker/training/checkpoint_reader.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "common/file.h"
#include "common/huge_pages.h"
#include "common/json.h"
#include "common/status.h"
#include "storage/artefacts/manifest.h"
#include "worker/model/state_files.h"
#include "worker/training/ownership.h"

namespace moe::training {
namespace {

// The part of `copy` that is in the block of `size` bytes at `offset` of its file.
void TakeFrom(uint64_t offset, const uint8_t* data, size_t size,
              const model::StateFiles::Copy& copy) {
  const uint64_t begin = std::max(copy.begin, offset);
  const uint64_t end = std::min(copy.end, offset + size);
  if (begin >= end) return;
  std::memcpy(reinterpret_cast<uint8_t*>(copy.out) + (begin - copy.begin), data + (begin - offset),
              end - begin);
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
  std::vector<std::vector<model::StateFiles::Copy>> copies(names.size());  // of each file
  const auto make = [&](const char* tensor, const std::vector<parallel::Range>& ranges) {
    at::Tensor values = at::empty({TotalNumel(ranges)}, at::kFloat);
    AdviseHugePages(values.mutable_data_ptr(), values.nbytes());
    float* out = values.mutable_data_ptr<float>();
    for (const parallel::Range& range : ranges) {
      for (const auto& [begin, end] : layout.WholeRanges({range.begin, range.end})) {
        for (const auto& copy : files.Locate(tensor, begin, end, out)) {
          copies[copy.file].push_back(copy);
        }
        out += end - begin;
      }
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
    MOE_RETURN_IF_ERROR(artefacts::VerifyFile(
        path, state_files[i], [&](uint64_t offset, const uint8_t* data, size_t size) {
          for (const auto& copy : copies[i]) TakeFrom(offset, data, size, copy);
        }));
  }
  return state;
}

}  // namespace moe::training
