#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/artefact_files.h"
#include "coordinator/attempt.h"
#include "coordinator/catalog.h"
#include "coordinator/job_table.h"

namespace moe::coordinator {

// Removes, in the background, what is in the folders of attempts that are over and not in the
// catalogue, and the unfinished work of jobs that have ended: a crash may have come between the
// catalogue and the disk.
absl::Status RemoveOrphans(const std::string& artefact_root, JobTable& jobs,
                           const AttemptMap& attempts, const Catalog& catalog,
                           const ArtefactFiles* files, FileWork* file_work);

// Moves the same to `aside` instead, also of attempts that live: right after the store was brought
// back from a backup the catalogue knows nothing of what was made since, and the store may give the
// names of those folders again. Returns how many were moved.
absl::StatusOr<int> SetAsideUnknown(const std::string& artefact_root, const Catalog& catalog,
                                    const ArtefactFiles& files, const std::string& aside);

}  // namespace moe::coordinator
