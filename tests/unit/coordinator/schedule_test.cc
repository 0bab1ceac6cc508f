#include "coordinator/scheduler/schedule.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace moe::coordinator {
namespace {

WorkerSlots Worker(const std::string& id, int total, std::vector<int32_t> free) {
  return {.worker_id = id, .total = total, .free = std::move(free)};
}

std::vector<std::string> Placed(const Schedule& schedule) {
  std::vector<std::string> ids;
  for (const PlacedJob& job : schedule.placed) ids.push_back(job.job_id);
  return ids;
}

std::string ReasonOf(const Schedule& schedule, const std::string& job_id) {
  for (const WaitingJob& job : schedule.waiting) {
    if (job.job_id == job_id) return job.reason;
  }
  return "placed";
}

TEST(ScheduleTest, HigherPriorityFirst_ThenEarlierSubmission) {
  const Schedule schedule =
      PlanSchedule({.queue = {{"j1", 0, 1, 1}, {"j2", 5, 2, 1}, {"j3", 5, 3, 1}},
                    .workers = {Worker("w1", 2, {0, 1})}});
  EXPECT_EQ(Placed(schedule), (std::vector<std::string>{"j2", "j3"}));
  EXPECT_EQ(ReasonOf(schedule, "j1"), "waits for 1 slot to become free");
}

TEST(ScheduleTest, GangThatDoesNotFit_KeepsItsPlace) {
  const Schedule schedule = PlanSchedule(
      {.queue = {{"wide", 0, 1, 2}, {"narrow", 0, 2, 1}}, .workers = {Worker("w1", 2, {1})}});
  EXPECT_TRUE(schedule.placed.empty());
  EXPECT_EQ(ReasonOf(schedule, "wide"), "waits for 2 slots to become free");
  EXPECT_EQ(ReasonOf(schedule, "narrow"), "waits behind wide, which comes first");
}

TEST(ScheduleTest, GangWiderThanTheCluster_BlocksNobody) {
  const Schedule schedule = PlanSchedule(
      {.queue = {{"wide", 0, 1, 3}, {"narrow", 0, 2, 1}}, .workers = {Worker("w1", 2, {0, 1})}});
  EXPECT_EQ(Placed(schedule), std::vector<std::string>{"narrow"});
  EXPECT_EQ(ReasonOf(schedule, "wide"), "needs 3 slots; all connected workers together have 2");
}

TEST(ScheduleTest, Gang_TakesTheTightestWorkerBeforeItSpreads) {
  const Schedule tight = PlanSchedule(
      {.queue = {{"j1", 0, 1, 2}}, .workers = {Worker("a", 4, {0, 1, 2}), Worker("b", 2, {0, 1})}});
  ASSERT_EQ(tight.placed[0].grants.size(), 1u);
  EXPECT_EQ(tight.placed[0].grants[0].worker_id, "b");
  const Schedule spread = PlanSchedule(
      {.queue = {{"j1", 0, 1, 4}}, .workers = {Worker("a", 4, {1, 2, 3}), Worker("b", 2, {0, 1})}});
  ASSERT_EQ(spread.placed[0].grants.size(), 2u);
  EXPECT_EQ(spread.placed[0].grants[0].slots, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(spread.placed[0].grants[1].slots, std::vector<int32_t>{0});
}

// What must hold of every schedule, on random clusters.
TEST(ScheduleTest, RandomSnapshots_KeepTheRules) {
  std::mt19937 random(1227);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int round = 0; round < 2000; ++round) {
    ScheduleSnapshot snapshot;
    std::map<std::string, std::set<int32_t>> free;
    int total = 0, total_free = 0;
    for (int w = below(5); w > 0; --w) {
      WorkerSlots worker = Worker("w" + std::to_string(w), 1 + below(4), {});
      for (int slot = 0; slot < worker.total; ++slot) {
        if (below(2) == 0) worker.free.push_back(slot);
      }
      free[worker.worker_id] = {worker.free.begin(), worker.free.end()};
      total += worker.total;
      total_free += static_cast<int>(worker.free.size());
      snapshot.workers.push_back(worker);
    }
    std::map<std::string, QueuedJob> jobs;
    for (int j = below(8); j > 0; --j) {
      const QueuedJob job = {"j" + std::to_string(j), below(3), static_cast<uint64_t>(j),
                             1 + below(5)};
      jobs[job.job_id] = job;
      snapshot.queue.push_back(job);
    }
    const Schedule schedule = PlanSchedule(snapshot);

    ASSERT_EQ(schedule.placed.size() + schedule.waiting.size(), jobs.size());
    int used = 0;
    for (const PlacedJob& placed : schedule.placed) {
      int given = 0;
      for (const SlotGrant& grant : placed.grants) {
        for (const int32_t slot : grant.slots) {
          ASSERT_EQ(free[grant.worker_id].erase(slot), 1u) << "a slot that was not free";
          ++given;
        }
      }
      ASSERT_EQ(given, jobs[placed.job_id].slots) << "all or nothing";
      used += given;
    }
    for (const WaitingJob& waiting : schedule.waiting) {
      ASSERT_FALSE(waiting.reason.empty());
      const QueuedJob& job = jobs[waiting.job_id];
      if (job.slots > total) continue;
      // Whoever could run at all and waits, is not overtaken.
      for (const PlacedJob& placed : schedule.placed) {
        const QueuedJob& other = jobs[placed.job_id];
        ASSERT_TRUE(other.priority > job.priority ||
                    (other.priority == job.priority && other.submit_order < job.submit_order));
      }
    }
    ASSERT_LE(used, total_free);
  }
}

}  // namespace
}  // namespace moe::coordinator
