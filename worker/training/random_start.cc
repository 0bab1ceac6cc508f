#include "worker/training/random_start.h"

#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <optional>
#include <string>

#include "common/philox.h"
#include "worker/model/parameters.h"
#include "worker/training/parameter_groups.h"

namespace moe::training {
namespace {

constexpr float kStddev = 0.02f;
constexpr int64_t kGrainBlocks = 1 << 14;

// What a parameter is filled with that is not drawn.
std::optional<float> ConstantOf(const artefacts::ModelConfig& config,
                                const model::Parameter& parameter) {
  const std::string& name = parameter.name;
  if (GroupOf(parameter) == "norms") return 1.0f;
  if (name.ends_with(".scale")) return static_cast<float>(config.moe.score_scale_factor);
  if (name.ends_with(".noise")) return 0.0f;  // sigma starts at ln 2 + epsilon
  if (name.ends_with(".output_bias")) return 0.0f;
  return std::nullopt;
}

}  // namespace

at::Tensor RandomStart(const artefacts::ModelConfig& config, uint64_t seed,
                       const model::ExpertShare& share) {
  const model::ParameterLayout layout(config, share);
  at::Tensor arena = at::zeros({layout.arena_numel()}, at::kFloat);
  float* data = arena.mutable_data_ptr<float>();
  for (size_t number = 0; number < layout.parameters().size(); ++number) {
    const model::Parameter& parameter = layout.parameters()[number];
    float* values = data + parameter.offset;
    if (const std::optional<float> constant = ConstantOf(config, parameter)) {
      std::fill_n(values, parameter.numel, *constant);
      continue;
    }
    // Blocks are numbered in the parameter that has all experts.
    const bool is_part = parameter.region == model::Region::kExperts;
    const int64_t first_block = is_part ? share.index * parameter.numel / 4 : 0;
    at::parallel_for(0, (parameter.numel + 3) / 4, kGrainBlocks, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; ++block) {
        const auto normal =
            Normal4(Philox(seed, RandomStream::kWeightInit, static_cast<uint32_t>(number),
                           static_cast<uint64_t>(first_block + block)));
        const int64_t count = std::min<int64_t>(4, parameter.numel - 4 * block);
        for (int64_t i = 0; i < count; ++i) {
          values[4 * block + i] = kStddev * normal[static_cast<size_t>(i)];
        }
      }
    });
  }
  return arena;
}

}  // namespace moe::training
