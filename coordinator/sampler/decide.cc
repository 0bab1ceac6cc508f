#include "coordinator/sampler/decide.h"

#include <fmt/ranges.h>

#include <bit>
#include <cmath>

#include "common/status.h"
#include "coordinator/sampler/update_rule.h"

namespace moe::coordinator {
namespace {

// How far a rank's weights may be from ours, which it has scaled once more.
constexpr double kSameWeight = 1e-12;

bool SameBits(double a, double b) {
  return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
}

std::vector<DomainStanding> StandingOf(const v1::SamplerDecision& decision) {
  std::vector<DomainStanding> standing;
  for (const v1::DecidedDomain& domain : decision.domains()) {
    standing.push_back(
        {domain.domain(), domain.old_weight(), domain.loss(), domain.reference_loss()});
  }
  return standing;
}

absl::StatusOr<std::vector<double>> ByRule(const v1::SamplerDecision& decision) {
  const std::optional<UpdateRule> rule = UpdateRuleOf(decision.rule());
  if (!rule.has_value()) {
    return InvalidArgument("rule '{}' is not known to this program", decision.rule());
  }
  return UpdateWeights(*rule, StandingOf(decision));
}

absl::StatusOr<std::vector<double>> Pinned(const v1::SamplerState& state,
                                           const v1::SamplerDecision& decision) {
  std::vector<double> weights;
  for (const v1::DecidedDomain& domain : decision.domains()) {
    const auto pinned = state.pinned_weights().find(domain.domain());
    if (pinned == state.pinned_weights().end()) {
      return InvalidArgument("the pinned weights have none for domain {}; unpin them",
                             domain.domain());
    }
    weights.push_back(pinned->second);
  }
  return weights;
}

// Inputs of the decision: what was measured, what there is to catch up with, and the weights.
absl::Status FillDomains(const v1::SamplerState& state, const Journal& journal,
                         const v1::DomainLosses& measured, v1::SamplerDecision& decision) {
  for (int i = 0; i < measured.domains_size(); ++i) {
    const v1::DomainLoss& loss = measured.domains(i);
    const auto reference = state.reference_losses().find(loss.domain());
    if (reference == state.reference_losses().end()) {
      return InvalidArgument(
          "domain {} has no reference loss; name it in mixture.dynamic.reference_losses, or take "
          "a reference report that has it",
          loss.domain());
    }
    v1::DecidedDomain& domain = *decision.add_domains();
    domain.set_domain(loss.domain());
    domain.set_loss(loss.loss());
    domain.set_reference_loss(reference->second);
    domain.set_epochs(loss.epochs());
    domain.set_old_weight(loss.weight());
    if (journal.empty()) continue;
    const v1::SamplerDecision& last = journal.back();
    if (last.domains_size() != measured.domains_size() ||
        last.domains(i).domain() != loss.domain() ||
        !(std::abs(last.domains(i).new_weight() - loss.weight()) <= kSameWeight)) {
      return FailedPrecondition(
          "step {} was drawn with the weight {} of domain {}, which is not what decision {} gave",
          measured.step(), loss.weight(), loss.domain(), last.version());
    }
    domain.set_old_weight(last.domains(i).new_weight());
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<double> WeightsOf(const Journal& journal, int64_t version) {
  std::vector<double> weights;
  if (version == 0) {
    for (const auto& domain : journal.front().domains()) weights.push_back(domain.old_weight());
  } else {
    for (const auto& domain : journal.at(static_cast<size_t>(version - 1)).domains()) {
      weights.push_back(domain.new_weight());
    }
  }
  return weights;
}

absl::StatusOr<v1::SamplerDecision> Decide(const v1::DynamicMixture& spec,
                                           const v1::SamplerState& state, const Journal& journal,
                                           const v1::DomainLosses& measured) {
  const int64_t last_version = journal.empty() ? 0 : journal.back().version();
  const int64_t last_step = journal.empty() ? 0 : journal.back().step();
  if (measured.version() != last_version || measured.step() <= last_step) {
    return FailedPrecondition(
        "losses after step {} under decision {} do not follow decision {}, made after step {}",
        measured.step(), measured.version(), last_version, last_step);
  }
  v1::SamplerDecision decision;
  decision.set_version(last_version + 1);
  decision.set_step(measured.step());
  decision.set_apply_step(measured.step() + 1);
  decision.set_first_sample(measured.next_sample());
  decision.set_tokens(measured.tokens());
  decision.set_rule(spec.rule());
  decision.set_previous_version(last_version);
  MOE_RETURN_IF_ERROR(FillDomains(state, journal, measured, decision));

  absl::StatusOr<std::vector<double>> weights;
  if (!state.pinned_weights().empty()) {
    decision.set_kind(v1::DECISION_KIND_PINNED);
    decision.set_user(state.user());
    weights = Pinned(state, decision);
  } else if (state.has_rollback_version()) {
    decision.set_kind(v1::DECISION_KIND_ROLLBACK);
    decision.set_rollback_version(state.rollback_version());
    decision.set_user(state.user());
    weights = WeightsOf(journal, state.rollback_version());
  } else {
    decision.set_kind(v1::DECISION_KIND_RULE);
    weights = ByRule(decision);
  }
  MOE_RETURN_IF_ERROR(weights.status());
  for (int i = 0; i < decision.domains_size(); ++i) {
    decision.mutable_domains(i)->set_new_weight((*weights)[static_cast<size_t>(i)]);
  }
  return decision;
}

std::vector<std::string> Replay(const Journal& journal) {
  std::vector<std::string> problems;
  for (size_t i = 0; i < journal.size(); ++i) {
    const v1::SamplerDecision& decision = journal[i];
    const auto fail = [&](const std::string& what) {
      problems.push_back(fmt::format("decision {}: {}", decision.version(), what));
    };
    if (decision.version() != static_cast<int64_t>(i) + 1) {
      fail(fmt::format("is number {} of the journal", i + 1));
      return problems;  // nothing after a hole can be followed
    }
    if (i > 0) {
      const v1::SamplerDecision& before = journal[i - 1];
      if (decision.step() <= before.step() || decision.first_sample() <= before.first_sample() ||
          decision.domains_size() != before.domains_size()) {
        fail("does not follow the one before");
        continue;
      }
      for (int d = 0; d < decision.domains_size(); ++d) {
        if (!SameBits(decision.domains(d).old_weight(), before.domains(d).new_weight())) {
          fail(fmt::format("the old weight of {} is {}, the decision before gave {}",
                           decision.domains(d).domain(), decision.domains(d).old_weight(),
                           before.domains(d).new_weight()));
        }
      }
    }
    if (decision.kind() == v1::DECISION_KIND_PINNED) continue;  // the weights are the input
    const bool is_rollback = decision.kind() == v1::DECISION_KIND_ROLLBACK;
    if (is_rollback && decision.rollback_version() >= decision.version()) {
      fail(fmt::format("goes back to {}, which is not before it", decision.rollback_version()));
      continue;
    }
    const absl::StatusOr<std::vector<double>> weights =
        is_rollback ? WeightsOf(journal, decision.rollback_version()) : ByRule(decision);
    if (!weights.ok()) {
      fail(Message(weights.status()));
      continue;
    }
    for (int d = 0; d < decision.domains_size(); ++d) {
      const double again = (*weights)[static_cast<size_t>(d)];
      if (!SameBits(again, decision.domains(d).new_weight())) {
        fail(fmt::format("the weight of {} comes out as {}, the journal has {}",
                         decision.domains(d).domain(), again, decision.domains(d).new_weight()));
      }
    }
  }
  return problems;
}

absl::StatusOr<std::map<std::string, double>> ReferenceLosses(
    const google::protobuf::Struct& report, const std::string& label) {
  const auto found = report.fields().find("losses");
  if (found == report.fields().end() || found->second.list_value().values().empty()) {
    return InvalidArgument("has no losses; take the report of an evaluate job");
  }
  std::vector<std::string> labels;
  for (const google::protobuf::Value& value : found->second.list_value().values()) {
    const auto& model = value.struct_value().fields();
    const auto name = model.find("label"), domains = model.find("domains");
    if (name == model.end() || domains == model.end()) continue;
    labels.push_back(name->second.string_value());
    if (!label.empty() && labels.back() != label) continue;
    std::map<std::string, double> losses;
    for (const auto& [domain, loss] : domains->second.struct_value().fields()) {
      losses[domain] = loss.number_value();
    }
    return losses;
  }
  return NotFound("has no model labelled '{}'; it has {}", label, fmt::join(labels, ", "));
}

}  // namespace moe::coordinator
