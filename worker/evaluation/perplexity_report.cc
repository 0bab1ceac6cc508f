#include "worker/evaluation/perplexity_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace moe::evaluation {
namespace {

std::string LossCell(const DomainLoss& loss) {
  return loss.tokens > 0 ? fmt::format("{:.4f}", loss.MeanLoss()) : "-";
}

std::string PerplexityCell(const DomainLoss& loss) {
  return loss.tokens > 0 ? fmt::format("{:.2f}", std::exp(loss.MeanLoss())) : "-";
}

Json LossJson(const DomainLoss& loss) {
  Json json = {{"domain", loss.domain}, {"samples", loss.samples}, {"tokens", loss.tokens}};
  json["loss"] = loss.tokens > 0 ? Json(loss.MeanLoss()) : Json(nullptr);
  json["perplexity"] = loss.tokens > 0 ? Json(std::exp(loss.MeanLoss())) : Json(nullptr);
  return json;
}

// A pipe would end the cell.
std::string Escape(const std::string& cell) {
  std::string text;
  for (const char c : cell) text += c == '|' ? std::string("\\|") : std::string(1, c);
  return text;
}

}  // namespace

DomainLoss ModelLosses::Total() const {
  DomainLoss total;
  total.domain = "mean";
  for (const DomainLoss& domain : domains) {
    total.samples += domain.samples;
    total.tokens += domain.tokens;
    total.loss_sum += domain.loss_sum;
  }
  return total;
}

std::vector<std::vector<std::string>> Table(const PerplexityReport& report) {
  std::vector<std::vector<std::string>> rows = {{"domain"}};
  if (report.models.empty()) return rows;
  for (const DomainLoss& domain : report.models[0].domains) rows.push_back({domain.domain});
  rows.push_back({"mean"});
  for (const ModelLosses& model : report.models) {
    rows[0].push_back(model.label + " loss");
    rows[0].push_back(model.label + " ppl");
    std::vector<DomainLoss> losses = model.domains;
    losses.push_back(model.Total());
    for (size_t i = 0; i < losses.size(); ++i) {
      rows[i + 1].push_back(LossCell(losses[i]));
      rows[i + 1].push_back(PerplexityCell(losses[i]));
    }
  }
  return rows;
}

Json LossesByDomain(const PerplexityReport& report) {
  Json models = Json::array();
  for (const ModelLosses& model : report.models) {
    Json domains = Json::object();
    for (const DomainLoss& domain : model.domains) {
      if (domain.tokens > 0) domains[domain.domain] = domain.MeanLoss();
    }
    models.push_back({{"label", model.label}, {"domains", std::move(domains)}});
  }
  return models;
}

std::string ToMarkdown(const PerplexityReport& report) {
  std::string text = "# Perplexity on held-out text\n\n";
  text += fmt::format(
      "Dataset {}, {} tokens per sample{}, {}, computed in {}. Loss in nats per token.\n\n",
      report.dataset, report.options.sequence_length,
      report.options.attention == AttentionScope::kDocument ? " with its documents apart" : "",
      report.options.max_samples_per_domain > 0
          ? fmt::format("at most {} samples per domain", report.options.max_samples_per_domain)
          : "all samples",
      report.compute);
  const std::vector<std::vector<std::string>> rows = Table(report);
  for (size_t i = 0; i < rows.size(); ++i) {
    for (const std::string& cell : rows[i]) text += "| " + Escape(cell) + " ";
    text += "|\n";
    if (i > 0) continue;
    text += "|---";
    for (size_t column = 1; column < rows[0].size(); ++column) text += "|---:";
    text += "|\n";
  }
  return text;
}

Json ToJson(const PerplexityReport& report) {
  Json models = Json::array();
  for (const ModelLosses& model : report.models) {
    Json domains = Json::array();
    for (const DomainLoss& domain : model.domains) domains.push_back(LossJson(domain));
    models.push_back({{"label", model.label},
                      {"model", model.model},
                      {"domains", domains},
                      {"mean", LossJson(model.Total())}});
  }
  return {{"format", "moe-perplexity-report"},
          {"version", 1},
          {"dataset", report.dataset},
          {"compute_dtype", report.compute},
          {"sequence_length", report.options.sequence_length},
          {"max_samples_per_domain", report.options.max_samples_per_domain},
          {"reset_attention_mask", report.options.attention == AttentionScope::kDocument},
          {"models", models}};
}

}  // namespace moe::evaluation
