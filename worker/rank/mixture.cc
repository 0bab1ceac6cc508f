#include "worker/rank/mixture.h"

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "common/crash_point.h"
#include "common/status.h"

namespace moe::rank {
namespace {

// Of the dataset's domains, in its order: what the decision names, and 0 for the others.
absl::StatusOr<training::WeightDecision> ToWeightDecision(const MixtureDecision& decision,
                                                          const sampler::SampleSequence& sequence) {
  training::WeightDecision result{.version = decision.version,
                                  .step = decision.step,
                                  .first_sample = decision.first_sample,
                                  .weights = {}};
  size_t found = 0;
  for (const sampler::SampleSequence::Domain& domain : sequence.domains()) {
    const auto weight = decision.weights.find(domain.name);
    result.weights.push_back(weight == decision.weights.end() ? 0.0 : weight->second);
    if (weight != decision.weights.end()) ++found;
  }
  if (found != decision.weights.size()) {
    return InvalidArgument("decision {} on domain weights names a domain that the dataset lacks",
                           decision.version);
  }
  return result;
}

}  // namespace

absl::StatusOr<sampler::SampleSequence> MakeSequence(const TrainSpec& spec,
                                                     const sampler::Dataset& dataset,
                                                     const Input& dataset_input) {
  std::vector<std::string> names;
  for (const sampler::DatasetDomain& domain : dataset.domains()) names.push_back(domain.name);

  std::vector<double> weights(names.size(), 0.0);
  if (spec.mixture_preset == "proportional") {
    for (size_t i = 0; i < names.size(); ++i) {
      weights[i] = static_cast<double>(
          dataset.NumSamples(sampler::Split::kTrain, static_cast<int>(i), spec.sequence_length));
    }
  } else if (!spec.mixture_preset.empty()) {
    MOE_ASSIGN_OR_RETURN(weights, sampler::MixturePreset(spec.mixture_preset, names));
  }
  for (const auto& [domain, weight] : spec.mixture_weights) {
    const auto it = std::find(names.begin(), names.end(), domain);
    if (it == names.end()) {
      return InvalidArgument(
          "mixture.weights names the domain \"{}\", which {} does not have; it "
          "has {}",
          domain, dataset_input.display_name(), fmt::join(names, ", "));
    }
    weights[it - names.begin()] = weight;
  }
  std::vector<sampler::SampleSequence::Domain> domains;
  for (size_t i = 0; i < names.size(); ++i) {
    domains.push_back({.name = names[i],
                       .num_samples = dataset.NumSamples(sampler::Split::kTrain,
                                                         static_cast<int>(i), spec.sequence_length),
                       .weight = weights[i]});
  }
  return sampler::SampleSequence::Create(spec.seed, std::move(domains));
}

absl::StatusOr<training::DynamicMixtureOptions> ToDynamicOptions(
    const TrainSpec& spec, const RunSpec& run, const sampler::SampleSequence& sequence) {
  training::DynamicMixtureOptions options{.interval_steps = spec.mixture_interval_steps,
                                          .heldout_samples = spec.mixture_heldout_samples,
                                          .decided = {}};
  if (options.interval_steps == 0) return options;
  for (const sampler::SampleSequence::Domain& domain : sequence.domains()) {
    if (domain.weight > 0 && !run.reference_losses.contains(domain.name)) {
      return InvalidArgument(
          "domain {} has no reference loss; name it in mixture.dynamic.reference_losses, take a "
          "reference report that has it, or leave the domain out of the mixture",
          domain.name);
    }
  }
  for (const MixtureDecision& decision : run.mixture_decisions) {
    MOE_ASSIGN_OR_RETURN(training::WeightDecision weights, ToWeightDecision(decision, sequence));
    options.decided.push_back(std::move(weights));
  }
  return options;
}

absl::StatusOr<training::WeightDecision> ChannelDecisions::Decide(
    const training::DomainLossReport& report) {
  channel_.Report("domain_losses", ToJson(report));
  CrashPoint("after_domain_losses");
  MOE_ASSIGN_OR_RETURN(const Json order, channel_.WaitForMixture(report.step));
  MOE_ASSIGN_OR_RETURN(const MixtureDecision decision,
                       ParseMixtureDecision(order, "the order mixture"));
  spdlog::info("domain weights version={} step={} weights={}", decision.version, report.step + 1,
               decision.weights);
  return ToWeightDecision(decision, sequence_);
}

}  // namespace moe::rank
