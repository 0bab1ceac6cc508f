#include "sampler/dataset_folder.h"

#include <vector>

#include "common/file.h"
#include "common/status.h"

namespace moe::sampler {

absl::Status MakeDatasetFolder(const std::string& folder) {
  MOE_RETURN_IF_ERROR(MakeDirectories(folder));
  MOE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(folder));
  if (!names.empty()) {
    return FailedPrecondition("{} is not empty (it holds {}); a dataset needs a folder of its own",
                              folder, names[0]);
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> ResolveAddBos(const PrepareSpec& spec, const Tokenizer& tokenizer) {
  const bool add_bos = spec.add_bos.value_or(tokenizer.settings().add_bos);
  if (add_bos && tokenizer.settings().bos_id < 0) {
    return InvalidArgument(
        "add_bos is on and the tokenizer {} has no beginning-of-sequence token; set add_bos to "
        "false",
        tokenizer.files().source);
  }
  return add_bos;
}

}  // namespace moe::sampler
