// What attempts have written: refused or catalogued, and which checkpoints are kept.
#pragma once

#include <set>
#include <string>

#include "absl/status/status.h"
#include "coordinator/artefact_files.h"
#include "coordinator/attempt.h"
#include "coordinator/catalog.h"
#include "coordinator/job_table.h"
#include "coordinator/supervisor_observer.h"
#include "coordinator/turn.h"

namespace moe::coordinator {

// Whether `path` is the folder or lies below it.
bool IsInside(const std::string& path, const std::string& folder);

// Where the attempts of a job keep the work that a later one goes on with: beside their output
// folders. "" for kinds whose attempts start over, or have checkpoints.
std::string WorkDir(const std::string& artefact_root, const v1::Job& job);

class Outputs {
 public:
  struct Parts {
    JobTable* jobs = nullptr;
    Catalog* catalog = nullptr;
    const AttemptMap* attempts = nullptr;
    const ArtefactFiles* files = nullptr;
    FileWork* file_work = nullptr;
    SupervisorObserver* observer = nullptr;
  };
  explicit Outputs(Parts parts) : parts_(parts) {}

  // Why the attempt may not put this into the catalogue; OK where it may.
  absl::Status Refuse(const Attempt& attempt, const v1::ArtefactWritten& written) const;
  // Catalogues it, and lets go of the job's checkpoints that are more than it keeps.
  void Commit(Turn& turn, Attempt& attempt, const v1::ArtefactWritten& written);
  // The checkpoint that the attempt was to go on from is damaged: takes it out of the catalogue,
  // and lets the job go on from the one before it, or from where it began. The files stay until the
  // coordinator starts again. Another job's checkpoint is left alone.
  void LeaveDamaged(Turn& turn, const Attempt& attempt);

 private:
  void Forget(Turn& turn, v1::JobRecord& record, const v1::Artefact& artefact);
  void RetainCheckpoints(Turn& turn, v1::JobRecord& record, const std::string& name);
  // What a live job reads or would resume from.
  std::set<std::string> ProtectedArtefacts() const;

  const Parts parts_;
};

}  // namespace moe::coordinator
