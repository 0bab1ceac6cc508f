#include "coordinator/queues/queue_usage.h"

#include <gtest/gtest.h>

namespace moe::coordinator {
namespace {

constexpr double kHalfLife = 100;
const QueueUsage::Key kAnn = {0, "ann"};
const QueueUsage::Key kBob = {0, "bob"};

TEST(QueueUsageTest, WhatIsHeld_CountsWithoutFurtherCalls) {
  QueueUsage usage(1e9);
  usage.Change(kAnn, 2, 1000);
  EXPECT_NEAR(usage.At(kAnn, 1010), 20, 1e-3);
  usage.Change(kAnn, -2, 1010);
  EXPECT_NEAR(usage.At(kAnn, 1100), 20, 1e-3);
  EXPECT_EQ(usage.At(kBob, 1100), 0);
}

TEST(QueueUsageTest, HalfIsLeftAfterAHalfLife) {
  QueueUsage usage(kHalfLife);
  usage.Change(kAnn, 1, 0);
  usage.Change(kAnn, -1, 1);
  const double now = usage.At(kAnn, 1);
  EXPECT_NEAR(usage.At(kAnn, 1 + kHalfLife), now / 2, 1e-9);
}

TEST(QueueUsageTest, WhatIsReadBack_IsWhatWasCounted) {
  QueueUsage lived(kHalfLife), read(kHalfLife);
  lived.Change(kAnn, 3, 50);
  lived.Change(kAnn, 1, 80);
  lived.Change(kAnn, -4, 120);
  read.Add(kAnn, 1, 80, 120);
  read.Add(kAnn, 3, 50, 120);
  EXPECT_NEAR(read.At(kAnn, 200), lived.At(kAnn, 200), 1e-6);
  // An attempt that still runs is read back as its past and what it holds.
  lived.Change(kBob, 2, 100);
  read.Add(kBob, 2, 100, 150);
  read.Change(kBob, 2, 150);
  EXPECT_NEAR(read.At(kBob, 200), lived.At(kBob, 200), 1e-6);
}

TEST(QueueUsageTest, AQueue_IsTheSumOfItsUsers) {
  QueueUsage usage(1e9);
  usage.Change(kAnn, 1, 0);
  usage.Change(kBob, 2, 0);
  usage.Change({1, "ann"}, 50, 0);
  EXPECT_NEAR(usage.OfQueue(0, 10), 30, 1e-3);
}

}  // namespace
}  // namespace moe::coordinator
