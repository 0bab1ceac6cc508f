#include "planner/expert_parallel.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "common/status.h"
#include "worker/model/parameters.h"

namespace moe::planner {
namespace {

std::vector<int64_t> DivisorsOf(int64_t n) {
  std::vector<int64_t> divisors;
  for (int64_t i = 1; i <= n; ++i) {
    if (n % i == 0) divisors.push_back(i);
  }
  return divisors;
}

// Of one expert, the smaller of its two matrices.
int64_t LeastMatrix(const artefacts::ModelConfig& model) {
  return model.hidden_size * model.moe.expert_width;
}

}  // namespace

absl::Status CheckExpertGroups(int64_t expert_parallel, int64_t ranks) {
  if (expert_parallel >= 1 && ranks % expert_parallel == 0) return absl::OkStatus();
  return InvalidArgument(
      "parallel.expert={} does not divide the {} slots of the job; use one of {}, or other slots",
      expert_parallel, ranks, fmt::join(DivisorsOf(ranks), ", "));
}

absl::Status CheckExpertShares(const artefacts::ModelConfig& model, int64_t expert_parallel) {
  if (expert_parallel == 1) return absl::OkStatus();
  if (!model.is_moe()) {
    return InvalidArgument(
        "parallel.expert={} shares out experts and the model is dense; leave it out",
        expert_parallel);
  }
  // A share is a range of the arena, whose parameters are padded as a whole.
  std::vector<int64_t> usable = DivisorsOf(model.moe.num_experts);
  std::erase_if(usable, [&model](int64_t count) {
    return count > 1 &&
           model.moe.num_experts / count * LeastMatrix(model) % model::kParameterAlignment != 0;
  });
  if (std::ranges::find(usable, expert_parallel) != usable.end()) return absl::OkStatus();
  return InvalidArgument(
      "parallel.expert={} does not share out the model's {} experts of {} x {} in equal parts of a "
      "multiple of {} weights; use one of {}",
      expert_parallel, model.moe.num_experts, model.moe.expert_width, model.hidden_size,
      model::kParameterAlignment, fmt::join(usable, ", "));
}

int64_t LargestExpertParallel(const artefacts::ModelConfig& model, int64_t ranks) {
  const std::vector<int64_t> divisors = DivisorsOf(ranks);
  return *std::find_if(divisors.rbegin(), divisors.rend(),
                       [&model](int64_t count) { return CheckExpertShares(model, count).ok(); });
}

}  // namespace moe::planner
