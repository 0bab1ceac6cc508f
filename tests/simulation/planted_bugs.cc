#include "tests/simulation/planted_bugs.h"

namespace moe::simulation {

const std::vector<std::pair<PlantedBug, std::string>>& AllPlantedBugs() {
  static const std::vector<std::pair<PlantedBug, std::string>> all = {
      {PlantedBug::kDiskIgnoresSync, "disk-ignores-sync"},
      {PlantedBug::kToldBeforeDurable, "told-before-durable"},
      {PlantedBug::kNextJobNotStored, "next-job-not-stored"},
      {PlantedBug::kRevisionNotStored, "revision-not-stored"},
      {PlantedBug::kRequestIdNotStored, "request-id-not-stored"},
      {PlantedBug::kJobNotStored, "job-not-stored"},
      {PlantedBug::kArtefactNotStored, "artefact-not-stored"},
      {PlantedBug::kLogNotStored, "log-not-stored"},
      {PlantedBug::kRankCursorNotStored, "rank-cursor-not-stored"},
      {PlantedBug::kDecisionNotStored, "decision-not-stored"},
      {PlantedBug::kAttemptNotDropped, "attempt-not-dropped"},
      {PlantedBug::kWallClockForLeases, "wall-clock-for-leases"},
      {PlantedBug::kNoLeaseMargin, "no-lease-margin"},
      {PlantedBug::kLeaseNotEnforced, "lease-not-enforced"},
      {PlantedBug::kStartedTwice, "started-twice"},
      {PlantedBug::kAnyArtefactAccepted, "any-artefact-accepted"},
      {PlantedBug::kCommittedFolderRemoved, "committed-folder-removed"},
      {PlantedBug::kQueueLimitIgnored, "queue-limit-ignored"},
      {PlantedBug::kArrayLimitIgnored, "array-limit-ignored"},
      {PlantedBug::kArrayProgressNotStored, "array-progress-not-stored"},
      {PlantedBug::kDrainNotStored, "drain-not-stored"},
      {PlantedBug::kLedgerEndNotStored, "ledger-end-not-stored"},
      {PlantedBug::kAuditNotStored, "audit-not-stored"},
  };
  return all;
}

std::string NameOf(PlantedBug bug) {
  for (const auto& [which, name] : AllPlantedBugs()) {
    if (which == bug) return name;
  }
  return "none";
}

std::optional<PlantedBug> PlantedBugNamed(const std::string& name) {
  for (const auto& [which, known] : AllPlantedBugs()) {
    if (known == name) return which;
  }
  return std::nullopt;
}

}  // namespace moe::simulation
