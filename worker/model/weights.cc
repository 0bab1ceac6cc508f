#include "worker/model/weights.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "common/status.h"
#include "worker/model/weight_source.h"

namespace moe::model {

LoadedModel ReadAll(const WeightSource& source, const ExpertShare& share) {
  const ParameterLayout held(source.config(), share);
  LoadedModel model{.config = source.config(),
                    .stored_dtype = source.dtype(),
                    .parameters = at::zeros({held.arena_numel()}, at::kFloat),
                    .tokenizer_path = source.tokenizer_path()};
  float* arena = model.parameters.mutable_data_ptr<float>();
  std::vector<float> all_experts;
  for (size_t i = 0; i < held.parameters().size(); ++i) {
    const Parameter& parameter = held.parameters()[i];
    const Parameter& whole = source.layout().parameters()[i];
    if (parameter.numel == whole.numel) {
      source.ReadFloats(whole, arena + parameter.offset);
      continue;
    }
    all_experts.resize(static_cast<size_t>(whole.numel));
    source.ReadFloats(whole, all_experts.data());
    std::copy_n(all_experts.begin() + (parameter.whole_offset - whole.offset), parameter.numel,
                arena + parameter.offset);
  }
  return model;
}

absl::StatusOr<LoadedModel> LoadModel(const std::string& path, WhichWeights which,
                                      const ExpertShare& share) {
  MOE_ASSIGN_OR_RETURN(const std::unique_ptr<WeightSource> source, OpenWeights(path, which));
  return ReadAll(*source, share);
}

}  // namespace moe::model
