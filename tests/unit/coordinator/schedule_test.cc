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
  EXPECT_EQ(ReasonOf(schedule, "narrow"), "waits its turn");
  EXPECT_EQ(schedule.waiting.back().behind, "wide");
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

PlacedNow Placed(const std::string& id, int32_t priority, double lost, int slots,
                 const std::string& worker = "w1") {
  return {.job_id = id,
          .priority = priority,
          .running_seconds = 100,
          .lost_work_seconds = lost,
          .slot_workers = std::vector<std::string>(static_cast<size_t>(slots), worker)};
}

std::vector<std::string> Preempted(const Schedule& schedule) {
  std::vector<std::string> ids;
  for (const PreemptedJob& job : schedule.preempted) ids.push_back(job.job_id);
  return ids;
}

TEST(ScheduleTest, Preemption_TakesTheLowestPriorityThenTheLeastWork) {
  const Schedule schedule = PlanSchedule(
      {.queue = {{"j9", 5, 9, 1}},
       .workers = {Worker("w1", 3, {})},
       .placed = {Placed("j1", 1, 1, 1), Placed("j2", 0, 50, 1), Placed("j3", 0, 20, 1)}});
  EXPECT_EQ(Preempted(schedule), std::vector<std::string>{"j3"});
  EXPECT_EQ(ReasonOf(schedule, "j9"), "waits for 1 slot to become free, and takes them from j3");
}

TEST(ScheduleTest, Preemption_StopsNobodyInVain) {
  const auto plan = [](PlacedNow placed, int32_t priority) {
    return PlanSchedule({.queue = {{"j9", priority, 9, 2}},
                         .workers = {Worker("w1", 2, {0})},
                         .placed = {std::move(placed)}});
  };
  EXPECT_EQ(Preempted(plan(Placed("j1", 4, 0, 1), 5)), std::vector<std::string>{"j1"});
  EXPECT_TRUE(plan(Placed("j1", 5, 0, 1), 5).preempted.empty());               // as important
  EXPECT_TRUE(plan(Placed("j1", 0, 0, 1, "elsewhere"), 5).preempted.empty());  // would not help
  PlacedNow fixed = Placed("j1", 0, 0, 1);
  fixed.preemptible = false;
  EXPECT_TRUE(plan(fixed, 5).preempted.empty());
  PlacedNow stopping = Placed("j1", 0, 0, 1);
  stopping.stopping = true;
  EXPECT_TRUE(plan(stopping, 5).preempted.empty());  // its slot comes by itself
}

TEST(ScheduleTest, Preemption_WaitsForTheMinimumRunTime) {
  PlacedNow young = Placed("j1", 0, 0, 1);
  young.running_seconds = 10;
  const ScheduleSnapshot snapshot = {
      .queue = {{"j9", 5, 9, 1}}, .workers = {Worker("w1", 1, {})}, .placed = {young}};
  const Schedule schedule = PlanSchedule(snapshot, {.minimum_run_seconds = 30});
  EXPECT_TRUE(schedule.preempted.empty());
  EXPECT_EQ(schedule.next_preemption_seconds, 20);
  EXPECT_TRUE(PlanSchedule(snapshot, {.preempt = false}).preempted.empty());
}

// Of every pre-emption: lower priority only, enough, nobody too many.
TEST(ScheduleTest, RandomPreemptions_AreNeededAndEnough) {
  std::mt19937 random(20);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  int taken = 0;
  for (int round = 0; round < 3000; ++round) {
    ScheduleSnapshot snapshot;
    int used = 0;
    for (int i = below(6); i >= 0; --i) {
      PlacedNow job = Placed("r" + std::to_string(i), below(4), below(100), 1 + below(3));
      job.running_seconds = below(60);
      job.preemptible = below(5) > 0;
      job.stopping = below(5) == 0;
      used += static_cast<int>(job.slot_workers.size());
      snapshot.placed.push_back(job);
    }
    std::vector<int32_t> free(static_cast<size_t>(below(3)));
    snapshot.workers.push_back(Worker("w1", used + static_cast<int>(free.size()), free));
    const int32_t priority = below(5), slots = 1 + below(8);
    snapshot.queue.push_back({"q", priority, 1, slots});
    const Schedule schedule = PlanSchedule(snapshot);
    if (schedule.preempted.empty()) continue;
    ++taken;
    int room = static_cast<int>(free.size());
    std::map<std::string, int> victims;
    for (const PlacedNow& job : snapshot.placed) {
      const int size = static_cast<int>(job.slot_workers.size());
      if (job.stopping) room += size;
      for (const PreemptedJob& preempted : schedule.preempted) {
        if (preempted.job_id != job.job_id) continue;
        EXPECT_LT(job.priority, priority);
        EXPECT_TRUE(job.preemptible && !job.stopping && job.running_seconds >= 30);
        victims[job.job_id] = size;
        room += size;
      }
    }
    EXPECT_GE(room, slots) << "round " << round;
    for (const auto& [id, size] : victims) EXPECT_LT(room - size, slots) << "round " << round;
  }
  EXPECT_GT(taken, 100);
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
