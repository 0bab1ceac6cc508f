// What a prepare job is asked to do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/json.h"
#include "sampler/documents.h"

namespace moe::sampler {

// moe.v1.Conversations with its defaults.
struct ConversationOptions {
  std::string chat_template = "";     // "": what the tokenizer says, or else "vicuna"
  int64_t max_tokens = 2048;          // a conversation of more loses its end
  std::optional<std::string> system;  // instead of the template's, where a conversation has none
};

// moe.v1.PrepareSpec with its defaults, and where the inputs are.
struct PrepareSpec {
  struct Domain {
    std::string name;
    std::vector<std::string> paths;
    std::string set{};  // only the lines of this set; "": all
  };
  struct LanguageRule {
    std::vector<std::string> languages;
    double min_share = 0.5;
    std::vector<std::string> domains;
  };
  struct ScoreFilter {
    std::string score;  // "fluency" or "advertisement"
    double drop = 0;    // share of a domain's documents
    std::vector<std::string> domains;
  };

  std::string tokenizer_path;
  std::vector<Domain> domains;
  double heldout_fraction = 0.05;
  int64_t max_tokens_per_domain = 0;  // 0: no limit
  std::optional<bool> add_bos;        // default: what the tokenizer's settings say
  OnBadDocument on_bad_document = OnBadDocument::kSkip;
  bool remove_duplicates = false;
  int64_t min_characters = 0;
  int64_t max_characters = 0;                       // 0: no limit
  std::optional<double> near_duplicate_similarity;  // absent: near-duplicates stay
  std::optional<LanguageRule> language;
  std::vector<ScoreFilter> filters;
  std::string scores_from;                             // folder of a dataset; "": none
  std::optional<ConversationOptions> conversations{};  // absent: running text
};

// INVALID_ARGUMENT names the value, the limit and what to do.
absl::Status CheckSpec(const PrepareSpec& spec);

// What the data card says of the spec: all but the domains.
Json CardOf(const PrepareSpec& spec);

// What holds for one domain of a spec.
struct DomainRules {
  int64_t min_characters = 0, max_characters = 0;
  const PrepareSpec::LanguageRule* language = nullptr;     // null: every language
  std::optional<double> drop_fluency, drop_advertisement;  // shares of its documents

  bool has_filters() const { return drop_fluency.has_value() || drop_advertisement.has_value(); }
};
// Points into `spec`.
DomainRules RulesOf(const PrepareSpec& spec, const std::string& domain);

}  // namespace moe::sampler
