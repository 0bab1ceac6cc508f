#include "worker/training/parameter_groups.h"

namespace moe::training {

std::string GroupOf(const model::Parameter& parameter) {
  const std::string& name = parameter.name;
  const std::string part = name.starts_with("layers.") ? name.substr(name.find('.', 7) + 1) : name;
  if (part == "embed" || part == "lm_head") return "embeddings";
  if (part == "qkv" || part == "attn_out") return "attention";
  if (part.starts_with("router.") || part == "noise") return "gates";
  if (part.ends_with("norm")) return "norms";
  return "ffn";
}

double RatioOf(const LearningRateRatios& ratios, const model::Parameter& parameter) {
  const auto it = ratios.find(GroupOf(parameter));
  return it == ratios.end() ? 1.0 : it->second;
}

void ClearFrozen(const model::ParameterLayout& layout, const LearningRateRatios& ratios,
                 parallel::Range range, const at::Tensor& gradients) {
  if (ratios.empty()) return;
  for (const model::Parameter& parameter : layout.parameters()) {
    if (RatioOf(ratios, parameter) != 0) continue;
    const parallel::Range piece =
        parallel::Intersection(range, {parameter.offset, parameter.offset + parameter.numel});
    if (piece.numel() > 0) gradients.narrow(0, piece.begin, piece.numel()).zero_();
  }
}

}  // namespace moe::training
