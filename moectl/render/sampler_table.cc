#include "moectl/render/sampler_table.h"

#include <fmt/format.h>

#include <map>
#include <vector>

#include "common/status.h"

namespace moe::moectl {
namespace {

using moe::v1::DecidedDomain;
using moe::v1::SamplerDecision;

std::string KindText(const SamplerDecision& decision) {
  switch (decision.kind()) {
    case moe::v1::DECISION_KIND_PINNED:
      return "pinned";
    case moe::v1::DECISION_KIND_ROLLBACK:
      return fmt::format("back to {}", decision.rollback_version());
    default:
      return decision.rule();
  }
}

std::string Weight(double weight) { return fmt::format("{:.4f}", weight); }

// By domain, in the journal's order.
absl::StatusOr<std::vector<double>> WeightsOf(const moe::v1::ListDecisionsResponse& journal,
                                              int64_t version) {
  if (journal.decisions().empty() || version < 0 || version > journal.decisions_size()) {
    return NotFound("the journal of {} has no version {}; it has {}", journal.job_id(), version,
                    journal.decisions().empty() ? "none yet"
                                                : fmt::format("0 to {}", journal.decisions_size()));
  }
  std::vector<double> weights;
  const SamplerDecision& decision =
      journal.decisions(version == 0 ? 0 : static_cast<int>(version - 1));
  for (const DecidedDomain& domain : decision.domains()) {
    weights.push_back(version == 0 ? domain.old_weight() : domain.new_weight());
  }
  return weights;
}

}  // namespace

std::string RenderSampler(const moe::v1::GetSamplerResponse& sampler,
                          const term::TableLayout& layout) {
  const moe::v1::SamplerState& state = sampler.state();
  std::string next = fmt::format("the rule '{}'", sampler.rule());
  if (!state.pinned_weights().empty()) {
    next = fmt::format("weights pinned by {}", state.user());
  } else if (state.has_rollback_version()) {
    next = fmt::format("back to version {}, as {} asked", state.rollback_version(), state.user());
  }
  std::string text = fmt::format(
      "Job:        {}\n"
      "Decides:    every {} steps\n"
      "Next:       {}\n",
      sampler.job_id(), sampler.interval_steps(), next);
  if (!sampler.has_newest()) {
    text += "Decisions:  none yet\n\n";
    term::Table table({{"DOMAIN"}, {"REFERENCE", term::Align::kRight}});
    const std::map<std::string, double> losses(state.reference_losses().begin(),
                                               state.reference_losses().end());
    for (const auto& [domain, loss] : losses) table.AddRow({domain, fmt::format("{:.4f}", loss)});
    return text + table.Render(layout);
  }
  const SamplerDecision& newest = sampler.newest();
  text += fmt::format("Decisions:  {}, the newest after step {} by {} (attempt {})\n\n",
                      newest.version(), newest.step(), KindText(newest), newest.attempt());
  term::Table table({{"DOMAIN"},
                     {"WEIGHT", term::Align::kRight},
                     {"BEFORE", term::Align::kRight},
                     {"LOSS", term::Align::kRight},
                     {"REFERENCE", term::Align::kRight},
                     {"EXCESS", term::Align::kRight},
                     {"EPOCHS", term::Align::kRight}});
  for (const DecidedDomain& domain : newest.domains()) {
    table.AddRow({domain.domain(), Weight(domain.new_weight()), Weight(domain.old_weight()),
                  fmt::format("{:.4f}", domain.loss()),
                  fmt::format("{:.4f}", domain.reference_loss()),
                  fmt::format("{:+.4f}", domain.loss() - domain.reference_loss()),
                  fmt::format("{:.3f}", domain.epochs())});
  }
  return text + table.Render(layout);
}

std::string RenderDecisions(const moe::v1::ListDecisionsResponse& journal,
                            const term::TableLayout& layout) {
  std::vector<term::Column> columns = {{"VERSION", term::Align::kRight},
                                       {"STEP", term::Align::kRight},
                                       {"TOKENS", term::Align::kRight},
                                       {"BY"}};
  for (const DecidedDomain& domain : journal.decisions(0).domains()) {
    columns.push_back({domain.domain(), term::Align::kRight});
  }
  term::Table table(columns);
  std::vector<term::Cell> start = {"0", "0", "0", "job file"};
  for (const DecidedDomain& domain : journal.decisions(0).domains()) {
    start.emplace_back(Weight(domain.old_weight()));
  }
  table.AddRow(std::move(start));
  for (const SamplerDecision& decision : journal.decisions()) {
    std::vector<term::Cell> row = {std::to_string(decision.version()),
                                   std::to_string(decision.step()),
                                   std::to_string(decision.tokens()), KindText(decision)};
    for (const DecidedDomain& domain : decision.domains()) {
      row.emplace_back(Weight(domain.new_weight()));
    }
    table.AddRow(std::move(row));
  }
  return table.Render(layout);
}

absl::StatusOr<std::string> RenderDiff(const moe::v1::ListDecisionsResponse& journal, int64_t from,
                                       int64_t to, const term::TableLayout& layout) {
  MOE_ASSIGN_OR_RETURN(const std::vector<double> before, WeightsOf(journal, from));
  MOE_ASSIGN_OR_RETURN(const std::vector<double> after, WeightsOf(journal, to));
  term::Table table({{"DOMAIN"},
                     {fmt::format("VERSION {}", from), term::Align::kRight},
                     {fmt::format("VERSION {}", to), term::Align::kRight},
                     {"CHANGE", term::Align::kRight},
                     {"RATIO", term::Align::kRight}});
  for (size_t i = 0; i < before.size(); ++i) {
    table.AddRow({journal.decisions(0).domains(static_cast<int>(i)).domain(), Weight(before[i]),
                  Weight(after[i]), fmt::format("{:+.4f}", after[i] - before[i]),
                  fmt::format("{:.3f}", after[i] / before[i])});
  }
  return table.Render(layout);
}

std::string DecisionsCsv(const moe::v1::ListDecisionsResponse& journal) {
  std::string text =
      "version,attempt,step,tokens,first_sample,kind,rule,domain,loss,reference_loss,old_weight,"
      "new_weight,epochs\n";
  for (const SamplerDecision& decision : journal.decisions()) {
    for (const DecidedDomain& domain : decision.domains()) {
      text += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{}\n", decision.version(),
                          decision.attempt(), decision.step(), decision.tokens(),
                          decision.first_sample(), KindText(decision), decision.rule(),
                          domain.domain(), domain.loss(), domain.reference_loss(),
                          domain.old_weight(), domain.new_weight(), domain.epochs());
    }
  }
  return text;
}

}  // namespace moe::moectl
