// The process of a rank, watched through a pidfd: one started by this daemon, or one found in a run
// folder that an earlier daemon started.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "common/file.h"
#include "common/process_info.h"
#include "worker/daemon/run_folder.h"

namespace moe::worker {

// Movable. The process lives on when this is destroyed.
class RankProcess {
 public:
  // A child of this process that nobody waits for elsewhere.
  static absl::StatusOr<RankProcess> OfChild(const ProcessIdentity& identity);
  // NOT_FOUND where that process is gone, also where its id belongs to another one by now.
  static absl::StatusOr<RankProcess> Adopt(const ProcessIdentity& identity);

  const ProcessIdentity& identity() const { return identity_; }
  // Readable once the process has ended.
  int pidfd() const { return pidfd_.get(); }

  // SIGKILL to its process group. Harmless once it has ended.
  void Kill() const;

  // How it ended, once it has; ends what is left of a child's process group. nullopt while it runs.
  // Of an adopted process only the end itself is known.
  std::optional<ProcessExit> TryReap();

 private:
  RankProcess(const ProcessIdentity& identity, FileDescriptor pidfd, bool is_child)
      : identity_(identity), pidfd_(std::move(pidfd)), is_child_(is_child) {}

  bool HasEnded() const;

  ProcessIdentity identity_;
  FileDescriptor pidfd_;
  bool is_child_;
};

}  // namespace moe::worker
