#include "tests/simulation/simulation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <set>
#include <string>

namespace moe::simulation {
namespace {

class SimulationTest : public ::testing::Test {
 protected:
  SimulationTest() { spdlog::set_level(spdlog::level::off); }
};

TEST_F(SimulationTest, SameSeed_SameHistory) {
  for (const uint64_t seed : {3, 11, 42}) {
    const Outcome first = Simulate({.seed = seed});
    const Outcome second = Simulate({.seed = seed});
    EXPECT_EQ(first.hash, second.hash) << "seed " << seed;
    EXPECT_EQ(first.events, second.events) << "seed " << seed;
  }
}

TEST_F(SimulationTest, OtherSeed_OtherHistory) {
  std::set<uint64_t> hashes;
  for (uint64_t seed = 1; seed <= 20; ++seed) hashes.insert(Simulate({.seed = seed}).hash);
  EXPECT_EQ(hashes.size(), 20u);
}

// A check that finds nothing must be known to find something.
class PlantedBugTest : public SimulationTest, public ::testing::WithParamInterface<PlantedBug> {};

TEST_P(PlantedBugTest, IsFound) {
  constexpr uint64_t kSeeds = 400;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const Outcome outcome = Simulate({.seed = seed, .bug = GetParam()});
    if (!outcome.violation.has_value()) continue;
    RecordProperty("seed", static_cast<int>(seed));
    fmt::print("{} is found by seed {}: {}\n", NameOf(GetParam()), seed, *outcome.violation);
    return;
  }
  FAIL() << NameOf(GetParam()) << " went unnoticed in " << kSeeds << " seeds";
}

std::vector<PlantedBug> Bugs() {
  std::vector<PlantedBug> bugs;
  for (const auto& [bug, name] : AllPlantedBugs()) bugs.push_back(bug);
  return bugs;
}

INSTANTIATE_TEST_SUITE_P(All, PlantedBugTest, ::testing::ValuesIn(Bugs()),
                         [](const ::testing::TestParamInfo<PlantedBug>& info) {
                           std::string name = NameOf(info.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace moe::simulation
