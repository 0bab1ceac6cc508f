// Mistakes that a simulation can be told to make, so that a test sees whether it would notice them.
// They sit in the simulation's own doubles, and where a turn's batch passes through it: what is
// left out of a batch there is what the product would have forgotten to store.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace moe::simulation {

enum class PlantedBug {
  kNone,
  kDiskIgnoresSync,         // a synced write is not
  kToldBeforeDurable,       // answers go out before the commit
  kNextJobNotStored,        // the counter of job ids
  kRevisionNotStored,       // the counter of revisions
  kRequestIdNotStored,      // what a request id was used for
  kJobNotStored,            // how a job ended
  kArtefactNotStored,       // what is in the catalogue
  kLogNotStored,            // the bytes of a log whose offset is stored
  kRankCursorNotStored,     // how far a rank's reports and log are durable
  kDecisionNotStored,       // a decision of the sampler
  kAttemptNotDropped,       // the record of an attempt that is over
  kWallClockForLeases,      // the coordinator counts leases on a clock that can be set
  kNoLeaseMargin,           // the next attempt is placed the moment the lease is over
  kLeaseNotEnforced,        // a rank goes on without a lease
  kStartedTwice,            // an order to start that is repeated starts a second process
  kAnyArtefactAccepted,     // what is on disk of an artefact is not checked
  kCommittedFolderRemoved,  // cleaning up takes what is in the catalogue along
  kQueueLimitIgnored,       // the coordinator knows no limits of queues
  kArrayLimitIgnored,       // nor how many elements of an array may run at once
  kArrayProgressNotStored,  // which elements of an array are jobs already
  kDrainNotStored,          // that a worker is drained
  kLedgerEndNotStored,      // the last time of an attempt's slots
  kAuditNotStored,          // who did what
};

// All but kNone, with their names on the command line.
const std::vector<std::pair<PlantedBug, std::string>>& AllPlantedBugs();
std::string NameOf(PlantedBug bug);
// nullopt where there is none of that name.
std::optional<PlantedBug> PlantedBugNamed(const std::string& name);

}  // namespace moe::simulation
