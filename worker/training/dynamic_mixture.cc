#include "worker/training/dynamic_mixture.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "common/check.h"
#include "common/crash_point.h"
#include "common/status.h"
#include "worker/training/heldout_losses.h"
#include "worker/training/trainer.h"

namespace moe::training {

Json ToJson(const DomainLossReport& report) {
  Json domains = Json::array();
  for (const DomainLossReport::Domain& domain : report.domains) {
    domains.push_back({{"domain", domain.name},
                       {"loss", domain.loss},
                       {"weight", domain.weight},
                       {"epochs", domain.epochs}});
  }
  return {{"step", report.step},
          {"tokens", report.tokens},
          {"version", report.version},
          {"next_sample", report.next_sample},
          {"domains", std::move(domains)}};
}

DynamicMixture::DynamicMixture(DynamicMixtureOptions options,
                               const evaluation::PerplexityOptions& measure,
                               Collaborators collaborators)
    : options_(std::move(options)), measure_(measure), with_(collaborators) {
  if (options_.interval_steps == 0) return;
  MOE_CHECK(with_.source != nullptr);
  const std::vector<double>& weights = with_.sequence.WeightsAt(0);
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] > 0 && with_.dataset.NumSamples(sampler::Split::kHeldout, static_cast<int>(i),
                                                   measure_.sequence_length) == 0) {
      throw std::invalid_argument(fmt::format(
          "domain {} has no held-out sample of {} tokens to measure its loss on: use a smaller "
          "sequence_length, or a dataset with a larger heldout_fraction",
          with_.dataset.domains()[i].name, measure_.sequence_length));
    }
  }
  for (const WeightDecision& decision : options_.decided) Apply(decision);
}

void DynamicMixture::Apply(const WeightDecision& decision) {
  const absl::Status status =
      with_.sequence.ChangeWeights({decision.first_sample, decision.weights});
  if (!status.ok()) {
    throw std::invalid_argument(
        fmt::format("decision {} on domain weights: {}", decision.version, Message(status)));
  }
  decided_.push_back(decision);
}

bool DynamicMixture::IsDue(int64_t step) const {
  if (options_.interval_steps == 0 || step == 0 || step % options_.interval_steps != 0) {
    return false;
  }
  return std::none_of(decided_.begin(), decided_.end(),
                      [&](const WeightDecision& decision) { return decision.step == step; });
}

int64_t DynamicMixture::VersionAt(int64_t sample) const {
  int64_t version = 0;
  for (const WeightDecision& decision : decided_) {
    if (decision.first_sample <= sample) version = decision.version;
  }
  return version;
}

std::vector<double> DynamicMixture::Measure() {
  std::vector<bool> is_mixed;
  for (const double weight : with_.sequence.WeightsAt(0)) is_mixed.push_back(weight > 0);
  return MeasureHeldout(measure_, is_mixed, with_.dataset, with_.model, with_.communicator);
}

DomainLossReport DynamicMixture::ReportOf(int64_t step, int64_t tokens,
                                          const std::vector<double>& losses) const {
  const int64_t next = with_.sequence.cursor().next_index;
  DomainLossReport report{.step = step,
                          .tokens = tokens,
                          .version = VersionAt(next),
                          .next_sample = next,
                          .domains = {}};
  const std::vector<double>& weights = with_.sequence.WeightsAt(next);
  const std::vector<double> epochs = with_.sequence.Epochs();
  for (size_t i = 0; i < weights.size(); ++i) {
    if (std::isnan(losses[i]) && with_.sequence.WeightsAt(0)[i] == 0) continue;
    const std::string& name = with_.dataset.domains()[i].name;
    if (!std::isfinite(losses[i])) {
      throw NonFiniteLoss(
          fmt::format("step {}: the held-out loss of domain {} is {}", step, name, losses[i]));
    }
    report.domains.push_back(
        {.name = name, .loss = losses[i], .weight = weights[i], .epochs = epochs[i]});
  }
  return report;
}

StopReason DynamicMixture::Update(int64_t step, int64_t tokens,
                                  const std::function<StopReason()>& stop_requested) {
  if (!IsDue(step)) return StopReason::kNone;
  const DomainLossReport report = ReportOf(step, tokens, Measure());
  CrashPoint("before_domain_losses");

  // What rank 0 was told, as the doubles that ranks exchange: why to stop, or the decision's three
  // numbers and its weights.
  constexpr size_t kHead = 4;
  std::vector<double> told(kHead + with_.dataset.domains().size(), 0.0);
  if (with_.communicator.rank() == 0) {
    const absl::StatusOr<WeightDecision> decision = with_.source->Decide(report);
    if (decision.ok()) {
      told[1] = static_cast<double>(decision->version);
      told[2] = static_cast<double>(decision->step);
      told[3] = static_cast<double>(decision->first_sample);
      std::copy(decision->weights.begin(), decision->weights.end(), told.begin() + kHead);
    } else if (absl::IsCancelled(decision.status())) {
      told[0] = static_cast<double>(stop_requested());
    } else {
      throw std::runtime_error(
          fmt::format("domain weights after step {}: {}", step, Message(decision.status())));
    }
  }
  with_.communicator.BroadcastBytes(told.data(), told.size() * sizeof(double), 0);
  const StopReason stop = static_cast<StopReason>(static_cast<int>(told[0]));
  if (stop != StopReason::kNone) return stop;
  CrashPoint("after_decision");
  Apply({.version = static_cast<int64_t>(told[1]),
         .step = static_cast<int64_t>(told[2]),
         .first_sample = static_cast<int64_t>(told[3]),
         .weights = {told.begin() + kHead, told.end()}});
  return StopReason::kNone;
}

}  // namespace moe::training
