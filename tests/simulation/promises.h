// What the coordinator has promised to whoever heard it, and whether it keeps it: checked after
// every turn, against memory and store.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "moe/v1/job_service.pb.h"
#include "tests/simulation/book_promises.h"
#include "tests/simulation/sim_coordinator.h"
#include "tests/simulation/sim_files.h"
#include "tests/simulation/sim_worker.h"
#include "tests/simulation/slot_promises.h"
#include "tests/simulation/world.h"

namespace moe::simulation {

class Promises {
 public:
  Promises(World* world, const SimFiles* files)
      : world_(world), files_(files), slots_(world), books_(world) {}

  SlotPromises& slots() { return slots_; }
  BookPromises& books() { return books_; }

  // Answers that users got.
  void SubmitAnswered(const std::string& request_id, const v1::SubmitPipelineResponse& answer);
  void CancelAnswered(const std::string& job) { cancelled_.insert(job); }

  // A coordinator has loaded what is durable.
  void OnStart(const SimCoordinator::Core& core);
  // A group of changes is durable and told.
  void AfterTurn(const SimCoordinator::Core& core);
  // Every fault is over, and so should be every job.
  void AtEnd(const SimCoordinator::Core& core);

  // At the end: what is stored of a rank's log is the beginning of what it wrote, and all that was
  // acknowledged of it.
  void CheckLog(const SimCoordinator::Core& core, const std::string& job, int attempt, int rank,
                const SimWorker::Log& log);

  // Jobs whose ids users know.
  const std::vector<std::string>& jobs() const { return jobs_; }

 private:
  void CheckSubmissions(const SimCoordinator::Core& core);
  void CheckSlots(const SimCoordinator::Core& core);
  void CheckArtefacts(const SimCoordinator::Core& core);
  void CheckJournals(const SimCoordinator::Core& core);
  void CheckRevision(const SimCoordinator::Core& core);
  void CheckSteps(const SimCoordinator::Core& core, const v1::Job& job);

  World* const world_;
  const SimFiles* const files_;
  SlotPromises slots_;
  BookPromises books_;
  std::map<std::string, std::vector<std::string>> answers_;  // request id -> job ids
  std::map<std::string, std::string> owners_;                // job id or pipeline id -> request id
  std::vector<std::string> jobs_;
  std::set<std::string> cancelled_;
  std::map<uint64_t, std::vector<std::string>> journals_;  // as seen, serialized
  std::map<std::string, uint32_t> committed_;              // reference -> CRC-32C, as seen
  int64_t revision_ = 0;
  std::map<std::string, v1::JobState> ended_;  // jobs seen at their end
};

}  // namespace moe::simulation
