// What goes wrong, and when: drawn from the seed before the simulation begins.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tests/simulation/rank_registry.h"
#include "tests/simulation/sim_coordinator.h"
#include "tests/simulation/sim_worker.h"
#include "tests/simulation/world.h"

namespace moe::simulation {

class Faults {
 public:
  struct Parts {
    World* world = nullptr;
    SimCoordinator* coordinator = nullptr;
    RankRegistry* registry = nullptr;
    std::vector<std::unique_ptr<SimWorker>>* workers = nullptr;
  };
  explicit Faults(Parts parts) : parts_(parts) {}

  // Plans `count` faults, all of which begin within so long.
  void Plan(int count, int64_t within_ms);
  // Everything works again: disks, ways, daemons. What hangs is killed.
  void EndAll();

 private:
  void Happen();
  void OfCoordinator();
  void OfDisk();
  void OfWorker(SimWorker& worker);
  void OfPath(SimWorker& worker);
  void OfRank();
  // Undoes something later, unless all faults have ended by then.
  void Later(int64_t millis, std::function<void()> undo);

  const Parts parts_;
  bool over_ = false;
};

}  // namespace moe::simulation
