#include "coordinator/input_resolver.h"

#include <cstdint>
#include <optional>

#include "common/status.h"
#include "coordinator/job_spec.h"

namespace moe::coordinator {

absl::StatusOr<std::map<std::string, ResolvedInput>> ResolveInputs(const v1::Job& job,
                                                                   JobTable& jobs,
                                                                   const Catalog& catalog) {
  std::map<std::string, ResolvedInput> resolved;
  for (const auto& [field, input] : InputsOf(job.spec())) {
    if (input.has_path()) {
      resolved[field].path = input.path();
      continue;
    }
    // What a job of the same pipeline made comes before the newest of that name.
    std::string reference = input.artefact();
    if (reference.find(':') == std::string::npos) {
      for (const std::string& need : job.need_job_ids()) {
        const v1::Job& maker = jobs.Find(need)->job();
        if (OutputName(maker.spec()) == reference && !maker.outputs().empty()) {
          reference = *maker.outputs().rbegin();
          break;
        }
      }
    }
    const v1::Artefact* artefact = catalog.Find(reference);
    if (artefact == nullptr) {
      return NotFound(
          "{}={} is not in the catalogue any more; list what is there with: moectl "
          "artefact list",
          field, reference);
    }
    resolved[field] = {artefact->path(), *artefact};
  }
  return resolved;
}

absl::Status CheckInputs(const std::map<std::string, ResolvedInput>& inputs) {
  const auto dataset = inputs.find("dataset");
  if (dataset == inputs.end() || !dataset->second.artefact.has_value()) return absl::OkStatus();
  const auto expected = VocabularyOf(*dataset->second.artefact);
  for (const auto& [field, input] : inputs) {
    if (field == "dataset" || !input.artefact.has_value() || !expected.has_value()) continue;
    const auto vocabulary = VocabularyOf(*input.artefact);
    if (!vocabulary.has_value()) continue;
    MOE_RETURN_IF_ERROR(artefacts::CheckVocabulary(
        "dataset=" + ArtefactReference(*dataset->second.artefact), *expected,
        field + "=" + ArtefactReference(*input.artefact), *vocabulary));
  }
  return absl::OkStatus();
}

}  // namespace moe::coordinator
