#include <algorithm>
#include <set>
#include <utility>

#include "common/status.h"
#include "coordinator/spec/kinds.h"
#include "storage/artefacts/text_file.h"

namespace moe::coordinator {
namespace {

constexpr char kLetters[] = "abcdefghijklmnopqrstuvwxyz";

// That a rule names domains of the job.
void CheckDomains(Checker& check, const std::string& field, const std::vector<std::string>& known,
                  const google::protobuf::RepeatedPtrField<std::string>& named) {
  for (const std::string& domain : named) {
    if (std::find(known.begin(), known.end(), domain) != known.end()) continue;
    check.Fail("{}='{}' is no domain of this job; there are {}{}", field, domain,
               fmt::join(known, ", "), Suggestion(domain, known));
  }
}

void CheckLanguage(Checker& check, const std::vector<std::string>& domains,
                   v1::LanguageRule& rule) {
  if (rule.languages().empty()) {
    check.Fail("language.languages is empty; name at least one (en), or leave the rule out");
  }
  for (const std::string& language : rule.languages()) {
    const bool is_code =
        language.size() == 2 && language.find_first_not_of(kLetters) == std::string::npos;
    if (!is_code) {
      check.Fail("language.languages='{}' is not a code of ISO 639-1; use two letters (en)",
                 language);
    }
  }
  if (!rule.has_min_share()) rule.set_min_share(0.5);
  check.Range("language.min_share", rule.min_share(), 0.0, 1.0);
  CheckDomains(check, "language.domains", domains, rule.domains());
  if (!rule.domains().empty()) return;
  // Source code is in no language.
  for (const std::string& domain : domains) {
    if (domain != "github") rule.add_domains(domain);
  }
}

void CheckFilters(Checker& check, const std::vector<std::string>& domains, v1::PrepareSpec& spec) {
  std::set<std::pair<std::string, std::string>> filtered;
  for (v1::ScoreFilter& filter : *spec.mutable_filters()) {
    check.OneOf("filters.score", filter.score(), {"fluency", "advertisement"});
    // The shares of the paper, section 4.2.
    if (!filter.has_drop()) filter.set_drop(filter.score() == "fluency" ? 0.15 : 0.5);
    check.Range("filters.drop", filter.drop(), 0.0, 0.95);
    CheckDomains(check, "filters.domains", domains, filter.domains());
    if (filter.domains().empty()) {
      for (const std::string& domain : domains) {
        if (domain == "commoncrawl" || domain == "c4") filter.add_domains(domain);
      }
      if (filter.domains().empty()) {
        check.Fail(
            "the filter by {} has no domain: it holds for commoncrawl and c4, and the job has "
            "neither; name its domains",
            filter.score());
      }
    }
    for (const std::string& domain : filter.domains()) {
      if (filtered.emplace(filter.score(), domain).second) continue;
      check.Fail("domain '{}' is filtered by {} twice; give one share", domain, filter.score());
    }
  }
}

const std::vector<std::string> kTemplates = {"tokenizer", "vicuna", "chatml", "llama2", "llama3"};

// What the template is by default depends on the tokenizer, which the rank reads.
void CheckConversations(Checker& check, v1::PrepareSpec& spec) {
  v1::Conversations& conversations = *spec.mutable_conversations();
  if (!conversations.template_().empty()) {
    check.OneOf("conversations.template", conversations.template_(), kTemplates);
  }
  if (!conversations.has_max_tokens()) conversations.set_max_tokens(2048);
  check.Minimum<int32_t>("conversations.max_tokens", conversations.max_tokens(), 16);
  if (spec.min_characters() > 0) {
    check.Fail("min_characters={} is for running text; leave it out for conversations",
               spec.min_characters());
  }
  for (const v1::DomainInput& domain : spec.domains()) {
    if (domain.set().empty()) continue;
    check.Fail("domain '{}': set='{}' is for running text; leave it out for conversations",
               domain.name(), domain.set());
  }
}

}  // namespace

void CheckPrepare(Checker& check, const Inputs& inputs, v1::PrepareSpec& spec, ThingFacts& output) {
  const ThingFacts tokenizer = inputs.Look(
      check, "tokenizer", spec.tokenizer(),
      {v1::ARTEFACT_KIND_MODEL, v1::ARTEFACT_KIND_CHECKPOINT, v1::ARTEFACT_KIND_DATASET},
      /*is_model=*/inputs.outside().HoldsModel(spec.tokenizer().path()));
  output.vocabulary = tokenizer.vocabulary;
  if (tokenizer.model.has_value()) {
    output.vocabulary = {.size = tokenizer.model->vocab_size,
                         .tokenizer_crc32c = tokenizer.model->tokenizer_crc32c};
  }
  if (spec.domains().empty()) check.Fail("domains is empty; give at least one domain");
  std::set<std::string> names;
  for (const v1::DomainInput& domain : spec.domains()) {
    check.Name("domains.name", domain.name());
    if (!names.insert(domain.name()).second) {
      check.Fail("domain '{}' is given twice; join their paths", domain.name());
    }
    output.domains.push_back(domain.name());
    if (domain.paths().empty()) {
      check.Fail("domain '{}' has no paths; give a file or a folder", domain.name());
    }
    bool all_empty = true;
    for (const std::string& path : domain.paths()) {
      if (path.empty() || path[0] != '/') {
        check.Fail("domain '{}': paths='{}' is not an absolute path", domain.name(), path);
        break;
      }
      check.Fail(artefacts::CheckTextFile(path), fmt::format("domain '{}'", domain.name()));
      bool is_empty = false;
      check.Fail(inputs.outside().CheckReadable(path, &is_empty),
                 fmt::format("domain '{}'", domain.name()));
      all_empty = all_empty && is_empty;
    }
    if (all_empty && check.status().ok()) {
      check.Fail("domain '{}' is empty: {} holds no text; give other paths or leave it out",
                 domain.name(), fmt::join(domain.paths(), ", "));
    }
  }
  if (!spec.has_heldout_fraction()) spec.set_heldout_fraction(0.05);
  check.Range("heldout_fraction", spec.heldout_fraction(), 0.0, 0.5);
  check.Minimum<int64_t>("max_tokens_per_domain", spec.max_tokens_per_domain(), 0);
  if (spec.on_bad_document().empty()) spec.set_on_bad_document("skip");
  check.OneOf("on_bad_document", spec.on_bad_document(), {"skip", "fail"});
  check.Minimum<int64_t>("min_characters", spec.min_characters(), 0);
  check.Minimum<int64_t>("max_characters", spec.max_characters(), 0);
  if (spec.max_characters() > 0 && spec.max_characters() < spec.min_characters()) {
    check.Fail("max_characters={} is below min_characters={}; no document could stay",
               spec.max_characters(), spec.min_characters());
  }
  if (spec.has_near_duplicates()) {
    v1::NearDuplicates& near = *spec.mutable_near_duplicates();
    if (!near.has_similarity()) near.set_similarity(0.8);
    check.Range("near_duplicates.similarity", near.similarity(), 0.5, 1.0);
  }
  if (spec.has_language()) CheckLanguage(check, output.domains, *spec.mutable_language());
  CheckFilters(check, output.domains, spec);
  if (spec.has_scores_from()) {
    inputs.LookAtDataset(check, "scores_from", spec.scores_from());
    if (spec.filters().empty()) {
      check.Fail("scores_from is of no use without filters; name a filter or leave it out");
    }
  }
  output.conversations = spec.has_conversations();
  if (spec.has_conversations()) CheckConversations(check, spec);
}

}  // namespace moe::coordinator
