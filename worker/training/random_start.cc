#include "worker/training/random_start.h"

#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "common/philox.h"
#include "worker/training/parameter_groups.h"

namespace moe::training {
namespace {

constexpr float kStddev = 0.02f;
constexpr int64_t kGrainBlocks = 1 << 14;

}  // namespace

at::Tensor RandomStart(const model::ParameterLayout& layout, uint64_t seed) {
  at::Tensor arena = at::zeros({layout.arena_numel()}, at::kFloat);
  float* data = arena.mutable_data_ptr<float>();
  for (size_t number = 0; number < layout.parameters().size(); ++number) {
    const model::Parameter& parameter = layout.parameters()[number];
    float* values = data + parameter.offset;
    if (GroupOf(parameter) == "norms") {
      std::fill_n(values, parameter.numel, 1.0f);
      continue;
    }
    if (parameter.name.ends_with(".noise")) continue;  // sigma starts at ln 2 + epsilon
    at::parallel_for(0, (parameter.numel + 3) / 4, kGrainBlocks, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; ++block) {
        const auto normal =
            Normal4(Philox(seed, RandomStream::kWeightInit, static_cast<uint32_t>(number),
                           static_cast<uint64_t>(block)));
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
