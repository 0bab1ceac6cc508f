// What is written down for later adds up: where the time of slots went, and who did what.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "moe/v1/record.pb.h"
#include "tests/simulation/sim_coordinator.h"
#include "tests/simulation/world.h"

namespace moe::simulation {

class BookPromises {
 public:
  explicit BookPromises(World* world) : world_(world) {}

  // A change was answered.
  void ChangeAnswered(const std::string& method, const std::string& target) {
    ++answered_[method + " " + target];
  }

  void OnStart(const SimCoordinator::Core& core);
  void AfterTurn(const SimCoordinator::Core& core);
  void AtEnd(const SimCoordinator::Core& core);

 private:
  // That the parts of an attempt's time are its time.
  void CheckLedger(const std::string& attempt, const v1::AttemptLedger& ledger);
  void CheckJob(const SimCoordinator::Core& core, uint64_t number, const v1::JobRecord& record);
  void CheckSlotSeconds(const SimCoordinator::Core& core);
  void CheckAudit(const SimCoordinator::Core& core);

  World* const world_;
  std::map<std::string, int> answered_;  // "CancelJob j17" -> how often
  std::vector<std::string> hashes_;      // of the audit journal, as seen
  // All slot-seconds since the coordinator's start: what is to be booked, and at what rate it
  // grows.
  double slot_seconds_ = 0;
  int64_t slots_ = 0;
  int64_t counted_millis_ = 0;  // monotonic
};

}  // namespace moe::simulation
