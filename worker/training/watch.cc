#include "worker/training/watch.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace moe::training {
namespace {

// A window of equal losses has no deviation, and every next one would be a spike.
constexpr double kLeastRelativeDeviation = 0.005;

// A layer has collapsed where its tokens are spread over fewer than this many times top_k experts,
// counted as exp(entropy of the loads): equal loads give all experts, one fixed choice gives top_k.
constexpr double kCollapseFactor = 1.1;

// How many experts or layers a warning names.
constexpr size_t kMaxNamed = 8;

struct Moments {
  double mean, deviation;
};

Moments MomentsOf(const std::deque<double>& values) {
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  const double count = static_cast<double>(values.size());
  const double mean = sum / count;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, std::max(std::sqrt(squares / count), kLeastRelativeDeviation * std::abs(mean))};
}

double EffectiveExperts(const std::vector<int64_t>& load, double total) {
  double entropy = 0;
  for (const int64_t tokens : load) {
    if (tokens == 0) continue;
    const double share = static_cast<double>(tokens) / total;
    entropy -= share * std::log(share);
  }
  return std::exp(entropy);
}

std::string Listed(const std::vector<std::string>& names) {
  const size_t shown = std::min(names.size(), kMaxNamed);
  const std::string list = fmt::format(
      "{}", fmt::join(names.begin(), names.begin() + static_cast<ptrdiff_t>(shown), ", "));
  return shown == names.size() ? list : fmt::format("{} and {} more", list, names.size() - shown);
}

}  // namespace

const char* TroubleName(Trouble trouble) {
  return trouble == Trouble::kNonFinite ? "non_finite" : "loss_spike";
}

Verdict JudgeStep(const WatchPolicy& policy, int64_t step, double loss, double balance_loss,
                  double gradient_norm, WatchState& state) {
  Verdict verdict;
  if (!std::isfinite(loss) || !std::isfinite(balance_loss) || !std::isfinite(gradient_norm)) {
    verdict = {Trouble::kNonFinite, policy.on_non_finite,
               fmt::format("step {}: loss={} balance_loss={} gradient_norm={}: not finite", step,
                           loss, balance_loss, gradient_norm)};
  } else if (static_cast<int64_t>(state.recent_losses.size()) >= policy.window_steps) {
    const Moments window = MomentsOf(state.recent_losses);
    const double limit = window.mean + policy.spike_deviations * window.deviation;
    if (loss > limit) {
      verdict = {Trouble::kLossSpike, policy.on_loss_spike,
                 fmt::format("step {}: loss={:.4f} is above {:.4f}, the mean {:.4f} of the {} "
                             "losses before and {} of their standard deviations of {:.4f}",
                             step, loss, limit, window.mean, state.recent_losses.size(),
                             policy.spike_deviations, window.deviation)};
    }
  }

  const bool is_bad = verdict.trouble != Trouble::kNone && verdict.action != WatchAction::kReport;
  if (!is_bad) {
    state.bad_steps = 0;
    state.recent_losses.push_back(loss);
    while (static_cast<int64_t>(state.recent_losses.size()) > policy.window_steps) {
      state.recent_losses.pop_front();
    }
    return verdict;
  }
  ++state.bad_steps;
  if (verdict.action != WatchAction::kStop && state.bad_steps >= policy.max_bad_steps) {
    verdict.action = WatchAction::kStop;
    verdict.text += fmt::format("; {} bad steps in a row, watch.max_bad_steps={}", state.bad_steps,
                                policy.max_bad_steps);
  }
  return verdict;
}

std::vector<RoutingWatch::Warning> RoutingWatch::Observe(
    const std::vector<model::LayerRouting>& routing, int64_t top_k) {
  loads_.resize(routing.size());
  for (size_t layer = 0; layer < routing.size(); ++layer) {
    loads_[layer].resize(routing[layer].load.size());
    for (size_t e = 0; e < routing[layer].load.size(); ++e) {
      loads_[layer][e] += routing[layer].load[e];
    }
  }
  if (++steps_ < policy_.window_steps) return {};

  std::vector<std::string> dead, collapsed;
  for (size_t layer = 0; layer < loads_.size(); ++layer) {
    const std::vector<int64_t>& load = loads_[layer];
    double total = 0;
    for (const int64_t tokens : load) total += static_cast<double>(tokens);
    const double experts = static_cast<double>(load.size());
    if (total == 0 || top_k >= static_cast<int64_t>(load.size())) continue;
    for (size_t e = 0; e < load.size(); ++e) {
      if (static_cast<double>(load[e]) < policy_.dead_expert_share * total / experts) {
        dead.push_back(fmt::format("layer {} expert {} ({} tokens)", layer, e, load[e]));
      }
    }
    const double effective = EffectiveExperts(load, total);
    if (effective < kCollapseFactor * static_cast<double>(top_k)) {
      collapsed.push_back(fmt::format("layer {} ({:.1f} of {})", layer, effective, load.size()));
    }
  }
  std::vector<Warning> warnings;
  if (!dead.empty()) {
    warnings.push_back(
        {"dead_experts",
         fmt::format("in {} steps these experts got less than {} of an equal share: {}", steps_,
                     policy_.dead_expert_share, Listed(dead))});
  }
  if (!collapsed.empty()) {
    warnings.push_back(
        {"router_collapse",
         fmt::format("in {} steps the tokens of these layers were spread over hardly more than "
                     "top_k={} experts: {}; raise balance_loss_weight or lower the learning rate "
                     "of the gates",
                     steps_, top_k, Listed(collapsed))});
  }
  steps_ = 0;
  loads_.clear();
  return warnings;
}

}  // namespace moe::training
