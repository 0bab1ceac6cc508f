#include "coordinator/ledger/attempt_ledger.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace moe::coordinator {
namespace {

int64_t Millis(const v1::AttemptLedger& ledger, v1::Activity activity) {
  return activity < ledger.millis_size() ? ledger.millis(activity) : 0;
}

TEST(AttemptLedgerTest, TrainingRun_IsBookedByWhatItDid) {
  v1::AttemptLedger ledger = OpenLedger(1000, 2, /*resumes=*/false);
  BookStep(6000, 2.0, /*again=*/false, &ledger);  // 3 s until the first step began
  BookStep(8500, 2.0, false, &ledger);            // 0.5 s between steps belongs to them
  BookCheckpoint(8500, 0.5, &ledger);
  Begin(9000, v1::ACTIVITY_IDLE, &ledger);
  Close(9400, &ledger);
  EXPECT_EQ(Millis(ledger, v1::ACTIVITY_STARTING), 3000);
  EXPECT_EQ(Millis(ledger, v1::ACTIVITY_PRODUCTIVE), 2000 + 2500 - 500 + 500);
  EXPECT_EQ(Millis(ledger, v1::ACTIVITY_CHECKPOINTING), 500);
  EXPECT_EQ(Millis(ledger, v1::ACTIVITY_IDLE), 400);
  EXPECT_EQ(HeldMillis(ledger), 8400);
  v1::SlotSeconds sum;
  AddSlotSeconds(ledger, &sum);
  EXPECT_DOUBLE_EQ(HeldSlotSeconds(sum), 2 * 8.4);
}

TEST(AttemptLedgerTest, StepsDoneBefore_AreRecomputed) {
  v1::AttemptLedger ledger = OpenLedger(0, 1, /*resumes=*/true);
  BookStep(5000, 1.0, /*again=*/true, &ledger);
  BookStep(6000, 1.0, /*again=*/false, &ledger);
  EXPECT_EQ(Millis(ledger, v1::ACTIVITY_RESTORING), 4000);
  EXPECT_EQ(Millis(ledger, v1::ACTIVITY_RECOMPUTED), 1000);
  EXPECT_EQ(Millis(ledger, v1::ACTIVITY_PRODUCTIVE), 1000);
}

TEST(AttemptLedgerTest, AStandstill_IsHungFromTheLastSignOfLife) {
  v1::AttemptLedger ledger = OpenLedger(0, 1, false);
  BookStep(1000, 0.5, false, &ledger);
  BookAs(9000, v1::ACTIVITY_HUNG, &ledger);
  EXPECT_EQ(Millis(ledger, v1::ACTIVITY_HUNG), 8000);
}

TEST(AttemptLedgerTest, Closed_TakesNothingMore) {
  v1::AttemptLedger ledger = OpenLedger(0, 1, false);
  Close(100, &ledger);
  const std::string before = ledger.SerializeAsString();
  BookStep(5000, 1, false, &ledger);
  BookCheckpoint(5000, 1, &ledger);
  Begin(5000, v1::ACTIVITY_PRODUCTIVE, &ledger);
  EXPECT_EQ(ledger.SerializeAsString(), before);
}

// Whatever is booked in whatever order, with clocks that stand still and durations that make no
// sense: the parts add up to the wall-clock time, and none is negative.
TEST(AttemptLedgerTest, Parts_AlwaysAddUpToTheTimeHeld) {
  std::mt19937_64 random(20261124);
  const auto below = [&](int64_t n) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(n));
  };
  for (int run = 0; run < 500; ++run) {
    int64_t now = below(1'000'000);
    v1::AttemptLedger ledger = OpenLedger(now, static_cast<int32_t>(1 + below(8)), below(2) == 0);
    for (int i = 0; i < 60; ++i) {
      now += below(5) == 0 ? -below(500) : below(3000);
      const double seconds = static_cast<double>(below(8000) - 1000) / 1000;
      switch (below(5)) {
        case 0:
          Begin(now, static_cast<v1::Activity>(1 + below(v1::Activity_MAX)), &ledger);
          break;
        case 1:
          BookAs(now, static_cast<v1::Activity>(1 + below(v1::Activity_MAX)), &ledger);
          break;
        case 2:
          BookCheckpoint(now, seconds, &ledger);
          break;
        default:
          BookStep(now, seconds, below(2) == 0, &ledger);
      }
      const v1::AttemptLedger shown = At(now + below(100), ledger);
      for (const v1::AttemptLedger& books : {ledger, shown}) {
        ASSERT_EQ(std::accumulate(books.millis().begin(), books.millis().end(), int64_t{0}),
                  HeldMillis(books));
        for (const int64_t millis : books.millis()) ASSERT_GE(millis, 0);
      }
    }
  }
}

}  // namespace
}  // namespace moe::coordinator
