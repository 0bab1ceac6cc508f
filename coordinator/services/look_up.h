// What validation asks about and only the loop's thread knows.
#pragma once

#include <string>

#include "coordinator/core.h"
#include "coordinator/files_facts.h"
#include "coordinator/job_spec.h"

namespace moe::coordinator {

// The artefacts and the earlier jobs that `jobs` refer to, as far as there are such, and the
// queues. On the loop's thread.
template <typename Jobs>
FilesFacts::Known LookUp(const Core& core, const Jobs& jobs) {
  FilesFacts::Known known{
      .queues = *core.queue_tree, .roots = core.path_roots, .models = core.models};
  const auto look_up_jobs = [&](const auto& ids) {
    for (const std::string& id : ids) {
      if (core.jobs->Find(id) != nullptr) known.job_ids.insert(id);
    }
  };
  for (const v1::JobSpec& spec : jobs) {
    look_up_jobs(spec.after_ok());
    look_up_jobs(spec.after_any());
    look_up_jobs(spec.after_not_ok());
    for (const auto& [field, input] : InputsOf(spec)) {
      if (!input.has_artefact()) continue;
      if (const v1::Artefact* artefact = core.catalog->Find(input.artefact())) {
        known.artefacts[input.artefact()] = *artefact;
      }
    }
  }
  return known;
}

}  // namespace moe::coordinator
