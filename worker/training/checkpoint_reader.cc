#include "worker/training/checkpoint_reader.h"

#include <ATen/ops/empty.h>

#include <vector>

#include "common/file.h"
#include "common/json.h"
#include "common/status.h"
#include "storage/artefacts/manifest.h"
#include "worker/model/state_files.h"

namespace moe::training {

absl::StatusOr<LoadedState> LoadCheckpoint(const std::string& path, uint32_t manifest_crc32c,
                                           int64_t arena_numel, parallel::Range range) {
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
                       model::StateFiles::Open(path, state_files, arena_numel));
  const auto read = [&files](const char* tensor, int64_t begin, int64_t end) {
    at::Tensor values = at::empty({end - begin}, at::kFloat);
    files.Read(tensor, begin, end, values.mutable_data_ptr<float>());
    return values;
  };
  state.parameters = read("parameters", 0, arena_numel);
  state.exp_avg = read("exp_avg", range.begin, range.end);
  state.exp_avg_sq = read("exp_avg_sq", range.begin, range.end);
  if (files.has_average()) state.average = read(model::kAverageTensor, range.begin, range.end);
  return state;
}

}  // namespace moe::training
