#include "worker/training/arena_check.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstdint>

namespace moe::training {
namespace {

// Without branches, on the bits, so that it runs at the memory's speed.
bool AllFinite(const float* values, int64_t count) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t damaged = 0;
  for (int64_t i = 0; i < count; ++i) {
    damaged |= (std::bit_cast<uint32_t>(values[i]) & kExponent) == kExponent ? 1 : 0;
  }
  return damaged == 0;
}

}  // namespace

std::string DescribeNonFinite(const model::ParameterLayout& layout, const at::Tensor& arena) {
  const float* data = arena.const_data_ptr<float>();
  std::string text;
  int64_t damaged = 0;
  for (const model::Parameter& parameter : layout.parameters()) {
    const float* values = data + parameter.offset;
    if (AllFinite(values, parameter.numel)) continue;
    if (damaged++ > 0) continue;
    int64_t count = 0, first = -1;
    for (int64_t i = 0; i < parameter.numel; ++i) {
      if (std::isfinite(values[i])) continue;
      if (count++ == 0) first = i;
    }
    text = fmt::format("{} has {} value{} of {} that {} not finite, the first at {}",
                       parameter.name, count, count == 1 ? "" : "s", parameter.numel,
                       count == 1 ? "is" : "are", first);
  }
  if (damaged > 1) text += fmt::format("; {} more parameters have some", damaged - 1);
  return text;
}

}  // namespace moe::training
