#include "sampler/prepare_spec.h"

#include <algorithm>
#include <set>
#include <utility>

#include "common/status.h"
#include "sampler/filters/language.h"

namespace moe::sampler {
namespace {

bool Contains(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

bool IsDomainName(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

absl::Status CheckDomains(const PrepareSpec& spec, std::set<std::string>& names) {
  if (spec.domains.empty()) return InvalidArgument("no domains; name at least one, with its paths");
  for (const PrepareSpec::Domain& domain : spec.domains) {
    if (!IsDomainName(domain.name)) {
      return InvalidArgument("the domain name '{}' must be lower-case letters, digits and dashes",
                             domain.name);
    }
    if (!names.insert(domain.name).second) {
      return InvalidArgument("domain {} is listed twice; list its paths under one", domain.name);
    }
    if (domain.paths.empty()) return InvalidArgument("domain {} has no paths", domain.name);
  }
  return absl::OkStatus();
}

absl::Status CheckListed(const std::string& what, const std::vector<std::string>& domains,
                         const std::set<std::string>& known) {
  for (const std::string& domain : domains) {
    if (!known.contains(domain)) {
      return InvalidArgument("{} names the domain '{}'; there are {}", what, domain,
                             fmt::join(known, ", "));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckFilters(const PrepareSpec& spec, const std::set<std::string>& domains) {
  std::set<std::pair<std::string, std::string>> filtered;
  for (const PrepareSpec::ScoreFilter& filter : spec.filters) {
    if (filter.score != "fluency" && filter.score != "advertisement") {
      return InvalidArgument("a filter has the score '{}'; use fluency or advertisement",
                             filter.score);
    }
    if (!(filter.drop >= 0 && filter.drop <= 0.95)) {
      return InvalidArgument("the filter by {} drops {}; it must be 0 to 0.95", filter.score,
                             filter.drop);
    }
    MOE_RETURN_IF_ERROR(CheckListed("the filter by " + filter.score, filter.domains, domains));
    for (const std::string& domain : filter.domains) {
      if (!filtered.emplace(filter.score, domain).second) {
        return InvalidArgument("domain {} is filtered by {} twice; give one share", domain,
                               filter.score);
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSpec(const PrepareSpec& spec) {
  std::set<std::string> domains;
  MOE_RETURN_IF_ERROR(CheckDomains(spec, domains));
  if (!(spec.heldout_fraction >= 0 && spec.heldout_fraction <= 0.5)) {
    return InvalidArgument("heldout_fraction is {}; it must be 0 to 0.5", spec.heldout_fraction);
  }
  for (const auto& [name, value] : {std::pair{"min_characters", spec.min_characters},
                                    {"max_characters", spec.max_characters},
                                    {"max_tokens_per_domain", spec.max_tokens_per_domain}}) {
    if (value < 0) {
      return InvalidArgument("{} is {}; it must be at least 0, which is no limit", name, value);
    }
  }
  if (spec.max_characters > 0 && spec.max_characters < spec.min_characters) {
    return InvalidArgument("max_characters={} is below min_characters={}", spec.max_characters,
                           spec.min_characters);
  }
  if (const auto similarity = spec.near_duplicate_similarity;
      similarity.has_value() && !(*similarity >= 0.5 && *similarity <= 1)) {
    return InvalidArgument("near_duplicates.similarity is {}; it must be 0.5 to 1", *similarity);
  }
  if (spec.language.has_value()) {
    const PrepareSpec::LanguageRule& rule = *spec.language;
    if (rule.languages.empty()) return InvalidArgument("language.languages is empty; name one");
    for (const std::string& language : rule.languages) {
      if (!IsKnownLanguage(language)) {
        return InvalidArgument("language.languages names '{}'; use two letters of ISO 639-1 (en)",
                               language);
      }
    }
    if (!(rule.min_share >= 0 && rule.min_share <= 1)) {
      return InvalidArgument("language.min_share is {}; it must be 0 to 1", rule.min_share);
    }
    MOE_RETURN_IF_ERROR(CheckListed("language.domains", rule.domains, domains));
  }
  return CheckFilters(spec, domains);
}

Json CardOf(const PrepareSpec& spec) {
  Json card = {{"heldout_fraction", spec.heldout_fraction},
               {"max_tokens_per_domain", spec.max_tokens_per_domain},
               {"remove_duplicates", spec.remove_duplicates},
               {"min_characters", spec.min_characters},
               {"max_characters", spec.max_characters}};
  if (spec.near_duplicate_similarity.has_value()) {
    card["near_duplicates"] = {{"similarity", *spec.near_duplicate_similarity}};
  }
  if (spec.language.has_value()) {
    card["language"] = {{"languages", spec.language->languages},
                        {"min_share", spec.language->min_share},
                        {"domains", spec.language->domains}};
  }
  Json filters = Json::array();
  for (const PrepareSpec::ScoreFilter& filter : spec.filters) {
    filters.push_back(
        {{"score", filter.score}, {"drop", filter.drop}, {"domains", filter.domains}});
  }
  card["filters"] = std::move(filters);
  return card;
}

DomainRules RulesOf(const PrepareSpec& spec, const std::string& domain) {
  DomainRules rules = {.min_characters = spec.min_characters,
                       .max_characters = spec.max_characters};
  if (spec.language.has_value() && Contains(spec.language->domains, domain)) {
    rules.language = &*spec.language;
  }
  for (const PrepareSpec::ScoreFilter& filter : spec.filters) {
    if (!Contains(filter.domains, domain)) continue;
    (filter.score == "fluency" ? rules.drop_fluency : rules.drop_advertisement) = filter.drop;
  }
  return rules;
}

}  // namespace moe::sampler
