#include "coordinator/spec/mixture.h"

#include <algorithm>
#include <limits>

#include "coordinator/sampler/update_rule.h"

namespace moe::coordinator {
namespace {

const std::vector<std::string> kPresets = {"llama1", "sheared", "uniform", "proportional"};
// What the paper waits between updates.
constexpr int64_t kDefaultIntervalTokens = 2'500'000'000;

void CheckDomain(Checker& check, const std::string& field, const std::string& domain,
                 const std::vector<std::string>& domains) {
  if (domains.empty() || std::find(domains.begin(), domains.end(), domain) != domains.end()) return;
  check.Fail("{}.{}: the dataset has no such domain, it has {}{}", field, domain,
             fmt::join(domains, ", "), Suggestion(domain, domains));
}

void CheckReference(Checker& check, const Inputs& inputs, const std::vector<std::string>& domains,
                    const v1::Mixture& mixture) {
  const v1::DynamicMixture& spec = mixture.dynamic();
  if (spec.reference_losses().empty() == !spec.has_reference()) {
    check.Fail(
        "mixture.dynamic needs either reference_losses, a table of domain to loss, or reference, "
        "the report of an evaluate job on the model to catch up with; give one");
  }
  if (spec.has_reference()) {
    if (!spec.reference().has_artefact()) {
      check.Fail("mixture.dynamic.reference must be an artefact, a report of an evaluate job");
    }
    inputs.Look(check, "mixture.dynamic.reference", spec.reference(), {v1::ARTEFACT_KIND_REPORT},
                /*is_model=*/false);
    return;
  }
  if (!spec.reference_label().empty()) {
    check.Fail("mixture.dynamic.reference_label='{}' is of use with reference only; leave it out",
               spec.reference_label());
  }
  for (const auto& [domain, loss] : spec.reference_losses()) {
    check.Positive(fmt::format("mixture.dynamic.reference_losses.{}", domain).c_str(), loss);
    CheckDomain(check, "mixture.dynamic.reference_losses", domain, domains);
  }
  for (const auto& [domain, weight] : mixture.weights()) {
    if (spec.reference_losses().contains(domain)) continue;
    check.Fail("mixture.dynamic.reference_losses has no loss for {}, which mixture.weights names",
               domain);
  }
}

void CheckInterval(Checker& check, int64_t tokens_per_step, v1::DynamicMixture& spec) {
  if (spec.has_interval_steps()) {
    if (spec.has_interval_tokens() &&
        (spec.interval_tokens() + tokens_per_step / 2) / tokens_per_step != spec.interval_steps()) {
      check.Fail("mixture.dynamic has interval_tokens={} and interval_steps={}; give one",
                 spec.interval_tokens(), spec.interval_steps());
    }
    check.Minimum<int32_t>("mixture.dynamic.interval_steps", spec.interval_steps(), 1);
    return;
  }
  if (!spec.has_interval_tokens()) spec.set_interval_tokens(kDefaultIntervalTokens);
  check.Minimum<int64_t>("mixture.dynamic.interval_tokens", spec.interval_tokens(), 1);
  const int64_t steps = (spec.interval_tokens() + tokens_per_step / 2) / tokens_per_step;
  spec.set_interval_steps(
      static_cast<int32_t>(std::clamp<int64_t>(steps, 1, std::numeric_limits<int32_t>::max())));
}

}  // namespace

void CheckMixture(Checker& check, const Inputs& inputs, const std::vector<std::string>& domains,
                  int64_t tokens_per_step, v1::Mixture& spec) {
  if (!spec.weights().empty() && !spec.preset().empty()) {
    check.Fail("mixture has both preset='{}' and weights; give one", spec.preset());
  }
  if (spec.weights().empty()) {
    if (spec.preset().empty()) spec.set_preset("llama1");
    check.OneOf("mixture.preset", spec.preset(), kPresets);
  }
  for (const auto& [domain, weight] : spec.weights()) {
    check.Positive(fmt::format("mixture.weights.{}", domain).c_str(), weight);
    CheckDomain(check, "mixture.weights", domain, domains);
  }
  if (!spec.has_dynamic()) return;
  v1::DynamicMixture& dynamic = *spec.mutable_dynamic();
  if (dynamic.rule().empty()) dynamic.set_rule("sheared");
  check.OneOf("mixture.dynamic.rule", dynamic.rule(), UpdateRuleNames());
  CheckReference(check, inputs, domains, spec);
  CheckInterval(check, tokens_per_step, dynamic);
  if (!dynamic.has_heldout_samples()) dynamic.set_heldout_samples(16);
  check.Minimum<int32_t>("mixture.dynamic.heldout_samples", dynamic.heldout_samples(), 1);
}

}  // namespace moe::coordinator
