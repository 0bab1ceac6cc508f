#include "coordinator/rate_limiter.h"

#include <gtest/gtest.h>

namespace moe::coordinator {
namespace {

TEST(RateLimiterTest, Burst_ThenTheSteadyRate) {
  RateLimiter limiter({.calls_per_second = 10, .burst = 3});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limiter.Take("alice", 1000), 0);
  EXPECT_DOUBLE_EQ(limiter.Take("alice", 1000), 0.1);
  EXPECT_DOUBLE_EQ(limiter.Take("alice", 1050), 0.05);
  EXPECT_EQ(limiter.Take("alice", 1100), 0);
  EXPECT_GT(limiter.Take("alice", 1100), 0);
}

TEST(RateLimiterTest, APause_SavesUpNoMoreThanTheBurst) {
  RateLimiter limiter({.calls_per_second = 10, .burst = 2});
  limiter.Take("alice", 0);
  int calls = 0;
  while (limiter.Take("alice", 3'600'000) == 0) ++calls;
  EXPECT_EQ(calls, 2);
}

TEST(RateLimiterTest, OneUser_DoesNotHinderAnother) {
  RateLimiter limiter({.calls_per_second = 1, .burst = 1});
  EXPECT_EQ(limiter.Take("alice", 0), 0);
  EXPECT_GT(limiter.Take("alice", 0), 0);
  EXPECT_EQ(limiter.Take("bob", 0), 0);
}

TEST(RateLimiterTest, WithoutARate_NothingIsLimited) {
  RateLimiter limiter({});
  for (int i = 0; i < 10'000; ++i) ASSERT_EQ(limiter.Take("alice", 0), 0);
}

}  // namespace
}  // namespace moe::coordinator
