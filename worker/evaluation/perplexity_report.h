// Perplexities of several models as one table: for programs, for people, for the catalogue.
#pragma once

#include <string>
#include <vector>

#include "common/json.h"
#include "worker/evaluation/perplexity.h"

namespace moe::evaluation {

struct ModelLosses {
  std::string label;  // column title
  std::string model;  // "name:version" or path
  std::vector<DomainLoss> domains;

  // Over the predicted tokens of all domains.
  DomainLoss Total() const;
};

struct PerplexityReport {
  std::string dataset;  // "name:version" or path
  std::string compute;  // "bf16" or "fp32": what was used
  PerplexityOptions options;
  std::vector<ModelLosses> models;  // over the same domains
};

// Rows of cells, the first row the titles: "domain", then "LABEL loss" and "LABEL ppl" per model;
// one row per domain, the last "mean". Losses in nats with 4 decimals, "-" where a domain has no
// sample.
std::vector<std::vector<std::string>> Table(const PerplexityReport& report);

// [{"label": ..., "domains": {domain: mean loss}}]: all digits, for programs. Domains without a
// sample are left out.
Json LossesByDomain(const PerplexityReport& report);

// The table in Markdown, under a heading that says how it was measured.
std::string ToMarkdown(const PerplexityReport& report);
// All numbers; a mean is null where there is none.
Json ToJson(const PerplexityReport& report);

}  // namespace moe::evaluation
