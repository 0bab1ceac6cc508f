#include "worker/daemon/slots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"

namespace moe::worker {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

const std::vector<Gpu> kTwoGpus = {{.number = 1, .name = "NVIDIA H100", .memory_bytes = 80},
                                   {.number = 3, .name = "NVIDIA H200", .memory_bytes = 141}};

TEST(DetectSlots, WithGpus_AreGpus) {
  const auto slots = DetectSlots({}, kTwoGpus);
  ASSERT_TRUE(slots.ok()) << slots.status();
  ASSERT_THAT(*slots, SizeIs(2));
  EXPECT_EQ((*slots)[1].device(), "NVIDIA H200");
  EXPECT_EQ((*slots)[1].memory_bytes(), 141);
  EXPECT_GE((*slots)[1].threads(), 1);
  EXPECT_EQ(DeviceArgument((*slots)[0]), "gpu:1");
  EXPECT_EQ(DeviceArgument((*slots)[1]), "gpu:3");
}

TEST(DetectSlots, WithoutGpus_OrWhereCpusAreAskedFor_AreCpus) {
  for (const auto& slots : {DetectSlots({}, {}), DetectSlots({.cpu_slots = 1}, kTwoGpus)}) {
    ASSERT_TRUE(slots.ok()) << slots.status();
    ASSERT_THAT(*slots, SizeIs(1));
    EXPECT_EQ(slots->front().device(), "cpu");
    EXPECT_EQ(DeviceArgument(slots->front()), "cpu");
  }
}

TEST(DetectSlots, WithoutACore_AreRefused) {
  EXPECT_THAT(Message(DetectSlots({.cpu_slots = 0}, {}).status()), HasSubstr("--cpu-slots=0"));
  EXPECT_THAT(Message(DetectSlots({.cpu_slots = 100'000}, {}).status()),
              HasSubstr("--threads-per-slot"));
  EXPECT_THAT(Message(DetectSlots({.threads_per_slot = -1}, kTwoGpus).status()),
              HasSubstr("--threads-per-slot=-1"));
}

TEST(ParseGpus, ReadsWhatMoeRankPrints) {
  const auto gpus = ParseGpus(
      R"([{"number": 2, "name": "NVIDIA H100", "memory_bytes": 85, "compute_capability": 90}])");
  ASSERT_TRUE(gpus.ok()) << gpus.status();
  ASSERT_THAT(*gpus, SizeIs(1));
  EXPECT_EQ(gpus->front().number, 2);
  EXPECT_EQ(gpus->front().name, "NVIDIA H100");
  EXPECT_EQ(gpus->front().memory_bytes, 85);
}

TEST(ParseGpus, SomethingElse_IsRefused) {
  EXPECT_FALSE(ParseGpus("Segmentation fault").ok());
  EXPECT_THAT(Message(ParseGpus("{}").status()), HasSubstr("not a list"));
  EXPECT_THAT(Message(ParseGpus(R"([{"number": 0}])").status()), HasSubstr("name"));
}

}  // namespace
}  // namespace moe::worker
