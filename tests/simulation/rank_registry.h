// Which ranks are processes now, wherever they are and whoever still knows of them: the truth that
// leases are there to keep.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/simulation/world.h"

namespace moe::simulation {

class SimRank;

// Who a rank is.
struct RankIdentity {
  std::string job;
  int attempt = 0;
  int rank = 0;
  std::string worker;
  int slot = 0;
  std::string Name() const {
    return fmt::format("{}.{}/{}@{}:{}", job, attempt, rank, worker, slot);
  }
};

class RankRegistry {
 public:
  explicit RankRegistry(World* world) : world_(world) {}

  struct Entry {
    RankIdentity who;
    SimRank* rank = nullptr;
  };

  // At most one attempt of a job is alive, and a slot holds at most one rank.
  void Born(const RankIdentity& who, SimRank* rank) {
    for (const Entry& other : alive_) {
      if (other.who.job == who.job && other.who.attempt != who.attempt) {
        world_->Violate("two live attempts of {}: {} starts while {} runs", who.job, who.Name(),
                        other.who.Name());
      }
      if (other.who.worker == who.worker && other.who.slot == who.slot) {
        world_->Violate("two ranks on one slot: {} starts while {} runs", who.Name(),
                        other.who.Name());
      }
      if (other.who.job == who.job && other.who.rank == who.rank) {
        world_->Violate("a rank runs twice: {} and {}", who.Name(), other.who.Name());
      }
    }
    alive_.push_back({who, rank});
  }
  void Died(const SimRank* rank) {
    std::erase_if(alive_, [rank](const Entry& entry) { return entry.rank == rank; });
  }
  std::vector<SimRank*> RanksOf(const std::string& job, int attempt) const {
    std::vector<SimRank*> ranks;
    for (const Entry& entry : alive_) {
      if (entry.who.job == job && entry.who.attempt == attempt) ranks.push_back(entry.rank);
    }
    return ranks;
  }
  const std::vector<Entry>& alive() const { return alive_; }

 private:
  World* const world_;
  std::vector<Entry> alive_;
};

}  // namespace moe::simulation
