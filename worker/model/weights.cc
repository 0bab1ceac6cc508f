#include "worker/model/weights.h"

#include <ATen/ops/zeros.h>

#include <memory>

#include "common/status.h"
#include "worker/model/weight_source.h"

namespace moe::model {

LoadedModel ReadAll(const WeightSource& source) {
  LoadedModel model{.config = source.config(),
                    .stored_dtype = source.dtype(),
                    .parameters = at::zeros({source.layout().arena_numel()}, at::kFloat),
                    .tokenizer_path = source.tokenizer_path()};
  float* arena = model.parameters.mutable_data_ptr<float>();
  for (const Parameter& parameter : source.layout().parameters()) {
    source.ReadFloats(parameter, arena + parameter.offset);
  }
  return model;
}

absl::StatusOr<LoadedModel> LoadModel(const std::string& path, WhichWeights which) {
  MOE_ASSIGN_OR_RETURN(const std::unique_ptr<WeightSource> source, OpenWeights(path, which));
  return ReadAll(*source);
}

}  // namespace moe::model
