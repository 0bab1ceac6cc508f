#include <set>

#include "common/status.h"
#include "coordinator/spec/kinds.h"

namespace moe::coordinator {

void CheckPrepare(Checker& check, const Inputs& inputs, v1::PrepareSpec& spec, ThingFacts& output) {
  const ThingFacts tokenizer = inputs.Look(
      check, "tokenizer", spec.tokenizer(),
      {v1::ARTEFACT_KIND_MODEL, v1::ARTEFACT_KIND_CHECKPOINT, v1::ARTEFACT_KIND_DATASET},
      /*is_model=*/inputs.outside().HoldsModel(spec.tokenizer().path()));
  if (tokenizer.model.has_value()) output.vocab_size = tokenizer.model->vocab_size;
  if (tokenizer.vocab_size.has_value()) output.vocab_size = tokenizer.vocab_size;
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
}

}  // namespace moe::coordinator
