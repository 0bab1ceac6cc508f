#include "coordinator/sampler/update_rule.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "common/status.h"

namespace moe::coordinator {
namespace {

// What the sheared rule keeps for every domain, whatever its losses: Xia et al.'s c.
constexpr double kSmoothing = 1e-4;

absl::Status Check(const std::vector<DomainStanding>& domains) {
  if (domains.empty()) return InvalidArgument("a mixture without domains has no weights to update");
  for (const DomainStanding& domain : domains) {
    if (!(domain.weight > 0) || !std::isfinite(domain.weight)) {
      return InvalidArgument("the weight of domain {} is {}; it must be finite and above 0",
                             domain.domain, domain.weight);
    }
    if (!std::isfinite(domain.loss) || !std::isfinite(domain.reference_loss)) {
      return InvalidArgument(
          "the loss of domain {} is {} and its reference {}; both must be finite", domain.domain,
          domain.loss, domain.reference_loss);
    }
  }
  return absl::OkStatus();
}

}  // namespace

const std::vector<std::string>& UpdateRuleNames() {
  static const std::vector<std::string> names = {"sheared", "paper"};
  return names;
}

std::optional<UpdateRule> UpdateRuleOf(const std::string& name) {
  if (name == "sheared") return UpdateRule::kSheared;
  if (name == "paper") return UpdateRule::kPaper;
  return std::nullopt;
}

absl::StatusOr<std::vector<double>> UpdateWeights(UpdateRule rule,
                                                  const std::vector<DomainStanding>& domains) {
  MOE_RETURN_IF_ERROR(Check(domains));
  // Both rules are softmax(ln w + excess), computed below the largest exponent so that no excess
  // overflows; they differ in what counts as excess and in the smoothing.
  std::vector<double> weights;
  for (const DomainStanding& domain : domains) {
    double excess = domain.loss - domain.reference_loss;
    if (rule == UpdateRule::kPaper) excess = std::max(0.0, excess);
    weights.push_back(std::log(domain.weight) + excess);
  }
  const double largest = *std::max_element(weights.begin(), weights.end());
  for (double& weight : weights) weight = std::exp(weight - largest);
  double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  if (rule == UpdateRule::kSheared) {
    const double floor = kSmoothing / static_cast<double>(domains.size());
    for (double& weight : weights) weight = (1 - kSmoothing) * weight / sum + floor;
    sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  }
  for (size_t i = 0; i < domains.size(); ++i) {
    weights[i] /= sum;
    if (!(weights[i] >= std::numeric_limits<double>::min())) {
      return InvalidArgument(
          "the weight of domain {} would fall from {} to {}; its losses are too far below the "
          "others': use the rule sheared, which keeps a share for every domain, or pin the weights",
          domains[i].domain, domains[i].weight, weights[i]);
    }
  }
  return weights;
}

}  // namespace moe::coordinator
