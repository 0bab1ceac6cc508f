// One simulated history of a cluster: a coordinator, a few workers, their ranks, users and
// everything that can go wrong between them. A seed gives one history, always the same
// (docs/design/0002-simulation.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tests/simulation/planted_bugs.h"

namespace moe::simulation {

struct Options {
  uint64_t seed = 1;
  PlantedBug bug = PlantedBug::kNone;
  bool print = false;  // the history, to standard output
};

struct Outcome {
  uint64_t hash = 0;   // of the history
  int64_t events = 0;  // lines of it
  int64_t millis = 0;  // simulated
  int starts = 0;      // of the coordinator
  std::optional<std::string> violation;
};

Outcome Simulate(const Options& options);

}  // namespace moe::simulation
