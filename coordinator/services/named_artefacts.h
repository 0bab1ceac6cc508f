// The catalogue's part of what validation asks about.
#pragma once

#include <map>
#include <string>

#include "coordinator/core.h"
#include "coordinator/job_spec.h"

namespace moe::coordinator {

// The artefacts that jobs refer to, as far as the catalogue has them. On the loop's thread.
template <typename Jobs>
std::map<std::string, v1::Artefact> FindNamedArtefacts(const Core& core, const Jobs& jobs) {
  std::map<std::string, v1::Artefact> artefacts;
  for (const v1::JobSpec& spec : jobs) {
    for (const auto& [field, input] : InputsOf(spec)) {
      if (!input.has_artefact()) continue;
      if (const v1::Artefact* artefact = core.catalog->Find(input.artefact())) {
        artefacts[input.artefact()] = *artefact;
      }
    }
  }
  return artefacts;
}

}  // namespace moe::coordinator
