// Somebody who follows all jobs from a revision on, over every restart of the coordinator, and who
// must have seen every event exactly once, in order.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "coordinator/job_table.h"
#include "tests/simulation/sim_coordinator.h"
#include "tests/simulation/world.h"

namespace moe::simulation {

class Watcher {
 public:
  Watcher(World* world, SimCoordinator* coordinator) : world_(world), coordinator_(coordinator) {}

  // Connects now, and again whenever the stream is gone.
  void Begin();
  // Whether it has asked the coordinator that runs now for what it missed.
  bool is_connected() const { return incarnation_ == coordinator_->incarnation(); }
  // That the store has no event that was not seen.
  void CheckComplete(const SimCoordinator::Core& core);

 private:
  void Connect();
  void Hear(const coordinator::JobTable::WatchMessage& message);

  World* const world_;
  SimCoordinator* const coordinator_;
  int64_t revision_ = 0;  // of the newest change heard of
  int64_t first_revision_ =
      -1;                     // everything after it must be heard of; negative: not connected yet
  int64_t incarnation_ = -1;  // of the coordinator that it watches
  std::map<int64_t, std::string> heard_;  // events by revision
};

}  // namespace moe::simulation
