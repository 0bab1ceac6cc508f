// Who may hold slots: no queue more than its limit, no array more elements than it wants at once,
// and nobody a slot of a worker that was drained before.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "coordinator/queues/queue_tree.h"
#include "tests/simulation/sim_coordinator.h"
#include "tests/simulation/world.h"

namespace moe::simulation {

class SlotPromises {
 public:
  explicit SlotPromises(World* world);

  // A user has asked for a drain; what this returns goes with the answer to it.
  int64_t DrainAsked(const std::string& worker) { return undrains_asked_[worker]; }
  void DrainAnswered(const std::string& worker, int64_t asked);
  void UndrainAsked(const std::string& worker);

  void OnStart(const SimCoordinator::Core& core);
  void AfterTurn(const SimCoordinator::Core& core);

 private:
  void CheckQueues(const SimCoordinator::Core& core);
  void CheckArrays(const SimCoordinator::Core& core);
  void CheckDrains(const SimCoordinator::Core& core);

  World* const world_;
  const coordinator::QueueTree queues_;
  std::set<std::pair<uint64_t, int32_t>> seen_;  // attempts
  // Workers whose drain was answered, and that nobody has asked to undrain since.
  std::set<std::string> drained_;
  std::map<std::string, int64_t> undrains_asked_;
};

}  // namespace moe::simulation
