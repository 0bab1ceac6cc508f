#include "worker/training/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace moe::training {

double Schedule::Factor(int64_t t) const {
  if (t < warmup_steps) {
    return static_cast<double>(t) / static_cast<double>(std::max<int64_t>(1, warmup_steps));
  }
  const double progress = static_cast<double>(t - warmup_steps) /
                          static_cast<double>(std::max<int64_t>(1, total_steps - warmup_steps));
  return std::max(final_ratio, 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
}

}  // namespace moe::training
