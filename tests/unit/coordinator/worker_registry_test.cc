#include "coordinator/worker_registry.h"

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/net/protocol_version.h"

namespace moe::coordinator {
namespace {

class SilentSession final : public WorkerSession {
 public:
  void Send(const v1::SessionResponse&) override {}
  void End(const absl::Status&) override {}
};

class WorkerRegistryTest : public ::testing::Test {
 protected:
  // A lease runs out 36 s after the last word; after 10 s of silence a worker is suspect.
  WorkerRegistry registry_{
      {.lease_ttl_ms = 30'000, .lease_margin_ms = 6'000, .heartbeat_interval_ms = 5'000}};
  Turn turn_;

  void Register(const std::string& worker_id, int slots) {
    v1::Register hello;
    hello.set_worker_id(worker_id);
    hello.set_protocol_version(kProtocolVersions.newest);
    for (int slot = 0; slot < slots; ++slot) hello.add_slots()->set_index(slot);
    registry_.Register(turn_, hello, std::make_shared<SilentSession>());
  }
  WorkerRegistry::Census Count() const { return registry_.Count(turn_.monotonic_millis); }
};

TEST_F(WorkerRegistryTest, Count_FollowsWhatBecomesOfWorkers) {
  Register("w1", 2);
  Register("w2", 3);
  ASSERT_TRUE(registry_.Drain(turn_, "w2", "a fan is loud", "ann").ok());
  EXPECT_EQ(Count().ready, 1);
  EXPECT_EQ(Count().drained, 1);
  EXPECT_EQ(Count().slots, 5);
  turn_.monotonic_millis = 11'000;
  registry_.Heartbeat(turn_, "w1");
  EXPECT_EQ(Count().ready, 1);
  EXPECT_EQ(Count().suspect, 1);
  EXPECT_EQ(Count().slots, 5) << "the lease of w2 is still good";
  turn_.monotonic_millis = 36'000;
  EXPECT_EQ(registry_.TakeLost(36'000), std::vector<std::string>({"w2"}));
  EXPECT_EQ(Count().lost, 1);
  EXPECT_EQ(Count().slots, 2);
}

// Whoever exports the count looks again only where this has grown.
TEST_F(WorkerRegistryTest, Changes_GrowsWithEveryChangeOfTheCountAndNotWithAHeartbeat) {
  uint64_t seen = registry_.changes();
  const auto has_grown = [&] {
    const uint64_t before = std::exchange(seen, registry_.changes());
    return seen > before;
  };
  Register("w1", 1);
  EXPECT_TRUE(has_grown());
  turn_.monotonic_millis = 5'000;
  registry_.Heartbeat(turn_, "w1");
  EXPECT_FALSE(has_grown());
  ASSERT_TRUE(registry_.Drain(turn_, "w1", "a fan is loud", "ann").ok());
  EXPECT_TRUE(has_grown());
  ASSERT_TRUE(registry_.Undrain(turn_, "w1").ok());
  EXPECT_TRUE(has_grown());
  turn_.monotonic_millis = 20'000;
  registry_.Heartbeat(turn_, "w1");
  EXPECT_TRUE(has_grown()) << "it was suspect";
  registry_.TakeLost(60'000);
  EXPECT_TRUE(has_grown());
  turn_.monotonic_millis = 61'000;
  registry_.Heartbeat(turn_, "w1");
  EXPECT_TRUE(has_grown()) << "it is back";
}

TEST_F(WorkerRegistryTest, NextExpiry_IsNeverLateAndCatchesUp) {
  EXPECT_EQ(registry_.NextExpiryMillis(), std::numeric_limits<int64_t>::max());
  Register("w1", 1);
  EXPECT_EQ(registry_.NextExpiryMillis(), 36'000);
  turn_.monotonic_millis = 5'000;
  registry_.Heartbeat(turn_, "w1");
  EXPECT_LE(registry_.NextExpiryMillis(), 41'000);
  EXPECT_TRUE(registry_.TakeLost(36'000).empty()) << "was renewed";
  EXPECT_EQ(registry_.NextExpiryMillis(), 41'000);
  EXPECT_EQ(registry_.TakeLost(41'000).size(), 1U);
  EXPECT_EQ(registry_.NextExpiryMillis(), std::numeric_limits<int64_t>::max());
}

}  // namespace
}  // namespace moe::coordinator
