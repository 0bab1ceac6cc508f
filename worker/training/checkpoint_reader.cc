#include "worker/training/checkpoint_reader.h"

#include <ATen/ops/empty.h>

#include <vector>

#include "common/file.h"
#include "common/json.h"
#include "common/status.h"
#include "storage/artefacts/manifest.h"
#include "worker/model/state_files.h"
#include "worker/training/ownership.h"

namespace moe::training {

absl::StatusOr<LoadedState> LoadCheckpoint(const std::string& path, uint32_t manifest_crc32c,
                                           const model::ParameterLayout& layout,
                                           const std::vector<parallel::Range>& owned) {
  MOE_ASSIGN_OR_RETURN(const artefacts::Manifest manifest,
                       artefacts::ReadManifest(path, &manifest_crc32c));
  std::vector<std::string> state_files;
  for (const artefacts::ManifestFile& file : manifest.files) {
    const bool is_state = model::IsStateFileName(file.path);
    if (!is_state && file.path != kProgressFile) continue;
    MOE_RETURN_IF_ERROR(artefacts::VerifyFile(path, file));
    if (is_state) state_files.push_back(file.path);
  }

  LoadedState state;
  const std::string progress_path = JoinPath(path, kProgressFile);
  MOE_ASSIGN_OR_RETURN(const Json progress, ReadJsonFile(progress_path));
  MOE_ASSIGN_OR_RETURN(state.progress, ParseProgress(progress, progress_path));

  MOE_ASSIGN_OR_RETURN(const model::StateFiles files,
                       model::StateFiles::Open(path, state_files, layout.whole_numel()));
  const auto read = [&](const char* tensor, const std::vector<parallel::Range>& ranges) {
    at::Tensor values = at::empty({TotalNumel(ranges)}, at::kFloat);
    float* out = values.mutable_data_ptr<float>();
    for (const parallel::Range& range : ranges) {
      for (const auto& [begin, end] : layout.WholeRanges({range.begin, range.end})) {
        files.Read(tensor, begin, end, out);
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
  state.parameters = read("parameters", all);
  state.exp_avg = read("exp_avg", owned);
  state.exp_avg_sq = read("exp_avg_sq", owned);
  if (files.has_average()) state.average = read(model::kAverageTensor, owned);
  return state;
}

}  // namespace moe::training
