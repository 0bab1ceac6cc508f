#pragma once

#include <string>

#include "absl/status/status.h"
#include "coordinator/artefact_files.h"
#include "coordinator/attempt.h"
#include "coordinator/catalog.h"

namespace moe::coordinator {

// Removes, in the background, what is in the folders of attempts that are over and not in the
// catalogue: a crash may have come between the catalogue and the disk.
absl::Status RemoveOrphans(const std::string& artefact_root, const AttemptMap& attempts,
                           const Catalog& catalog, const ArtefactFiles* files, FileWork* file_work);

}  // namespace moe::coordinator
