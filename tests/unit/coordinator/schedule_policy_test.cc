// Queues, fair share, back-fill and kinds of slots.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "coordinator/scheduler/fair_share.h"
#include "coordinator/scheduler/schedule.h"

namespace moe::coordinator {
namespace {

constexpr int32_t kA = 0, kB = 1;

// Workers "w0", "w1", ... of so many slots, all free.
std::vector<WorkerSlots> Workers(std::vector<int> sizes) {
  std::vector<WorkerSlots> workers;
  for (const int size : sizes) {
    WorkerSlots& worker = workers.emplace_back();
    worker.worker_id = "w" + std::to_string(workers.size() - 1);
    worker.total = size;
    for (int i = 0; i < size; ++i) worker.free.push_back(i);
  }
  return workers;
}

QueuedJob Job(const std::string& id, int32_t slots, int32_t account = 0) {
  static uint64_t order = 0;
  return {.job_id = id, .submit_order = ++order, .slots = slots, .account = account};
}

// Holds slots of w0 that are not among the free ones.
PlacedNow Running(const std::string& id, int slots, int32_t account = 0) {
  return {.job_id = id,
          .running_seconds = 1000,
          .slot_workers = std::vector<std::string>(static_cast<size_t>(slots), "w0"),
          .account = account};
}

std::string Of(const Schedule& schedule) {
  std::string text;
  for (const PlacedJob& job : schedule.placed) text += "+" + job.job_id + " ";
  for (const PreemptedJob& job : schedule.preempted) text += "-" + job.job_id + " ";
  return text;
}

const WaitingJob& WaitOf(const Schedule& schedule, const std::string& id) {
  const auto it = std::find_if(schedule.waiting.begin(), schedule.waiting.end(),
                               [&](const WaitingJob& job) { return job.job_id == id; });
  if (it == schedule.waiting.end()) throw std::runtime_error(id + " does not wait");
  return *it;
}

// Two queues below one, each with an account of its number.
ScheduleSnapshot TwoQueues(QueueRules a, QueueRules b) {
  a.name = "a";
  b.name = "b";
  a.parent = b.parent = 2;
  return {.queues = {a, b, {.name = "all"}}, .accounts = {{kA}, {kB}}};
}

TEST(QueuesTest, Limit_HoldsBackItsOwnQueueAlone) {
  ScheduleSnapshot snapshot = TwoQueues({.limit = 2}, {});
  snapshot.workers = Workers({8});
  snapshot.queue = {Job("a1", 3, kA), Job("a2", 1, kA), Job("b1", 3, kB)};
  const Schedule schedule = PlanSchedule(snapshot);
  EXPECT_EQ(Of(schedule), "+b1 ");
  EXPECT_EQ(WaitOf(schedule, "a1").code, WaitCode::kQueueLimit);
  EXPECT_EQ(WaitOf(schedule, "a1").reason, "needs 3 slots; queue 'a' may use 2");
  EXPECT_EQ(WaitOf(schedule, "a2").behind, "a1");
}

TEST(QueuesTest, LimitOfTheQueueAbove_CountsAllBelow) {
  ScheduleSnapshot snapshot = TwoQueues({}, {});
  snapshot.queues[2].limit = 3;
  snapshot.workers = Workers({8});
  snapshot.queue = {Job("a1", 2, kA), Job("b1", 2, kB)};
  const Schedule schedule = PlanSchedule(snapshot);
  EXPECT_EQ(Of(schedule), "+a1 ");
  EXPECT_EQ(WaitOf(schedule, "b1").reason, "needs 2 slots; queue 'all' may use 3");
}

TEST(QueuesTest, IdleQuota_IsLentUnlessItsQueueKeepsIt) {
  ScheduleSnapshot snapshot = TwoQueues({.quota = 2}, {.quota = 2});
  snapshot.workers = Workers({4});
  snapshot.queue = {Job("a1", 4, kA)};
  EXPECT_EQ(Of(PlanSchedule(snapshot)), "+a1 ");
  snapshot.queues[kB].lends = 1;
  const Schedule schedule = PlanSchedule(snapshot);
  EXPECT_EQ(WaitOf(schedule, "a1").code, WaitCode::kQuotaInUse);
}

TEST(QueuesTest, WhatIsEntitled_IsReclaimedFromTheBorrower_WhateverItsPriority) {
  ScheduleSnapshot snapshot = TwoQueues({.quota = 2}, {.quota = 2});
  snapshot.workers = Workers({4});
  snapshot.workers[0].free = {};
  snapshot.placed = {Running("a1", 2, kA), Running("a2", 2, kA)};
  snapshot.placed[0].priority = 9;
  snapshot.placed[1].priority = 8;
  snapshot.queue = {Job("b1", 2, kB)};
  EXPECT_EQ(Of(PlanSchedule(snapshot)), "-a2 ");
  // Within its quota it can lose nothing, to no priority of a queue that would borrow.
  snapshot.placed = {Running("a1", 2, kA), Running("b0", 2, kB)};
  snapshot.queue = {Job("b1", 2, kB)};
  snapshot.queue[0].priority = 100;
  EXPECT_EQ(Of(PlanSchedule(snapshot)), "-b0 ");
}

TEST(FairShareTest, WhoUsedLess_ComesFirst_ByWeight) {
  ScheduleSnapshot snapshot = TwoQueues({.weight = 1}, {.weight = 4});
  snapshot.accounts[kA].usage = 100;
  snapshot.accounts[kB].usage = 300;
  snapshot.workers = Workers({1});
  snapshot.queue = {Job("a1", 1, kA), Job("b1", 1, kB)};
  EXPECT_EQ(Of(PlanSchedule(snapshot)), "+b1 ");
  snapshot.accounts[kB].usage = 500;
  EXPECT_EQ(Of(PlanSchedule(snapshot)), "+a1 ");
}

TEST(FairShareTest, ABurstOfOne_SharesWithTheOther) {
  ScheduleSnapshot snapshot{.workers = Workers({4}), .accounts = {{0}, {0}}};
  for (int i = 0; i < 4; ++i) snapshot.queue.push_back(Job("a" + std::to_string(i), 1, 0));
  for (int i = 0; i < 4; ++i) snapshot.queue.push_back(Job("b" + std::to_string(i), 1, 1));
  EXPECT_EQ(Of(PlanSchedule(snapshot)), "+a0 +b0 +a1 +b1 ");
}

TEST(FairShareTest, UsageHalves) {
  DecayedUsage usage(100);
  usage.Hold(2, 0, 0.001);
  EXPECT_NEAR(usage.At(100), 0.001, 1e-6);
  DecayedUsage in_parts(100), at_once(100);
  for (int i = 0; i < 50; ++i) in_parts.Hold(3, i, i + 1);
  at_once.Hold(3, 0, 50);
  EXPECT_NEAR(in_parts.At(70), at_once.At(70), 1e-9);
}

TEST(BackfillTest, OnlyWhatEndsBeforeTheReservationStarts) {
  ScheduleSnapshot snapshot{.workers = Workers({4})};
  snapshot.workers[0].free = {3};
  snapshot.placed = {Running("r1", 2), Running("r2", 1)};
  snapshot.placed[0].bound_seconds = 100;
  snapshot.placed[1].bound_seconds = 500;
  snapshot.queue = {Job("wide", 4), Job("long", 1), Job("short", 1)};
  snapshot.queue[1].bound_seconds = 501;
  snapshot.queue[2].bound_seconds = 500;
  const Schedule schedule = PlanSchedule(snapshot);
  EXPECT_EQ(Of(schedule), "+short ");
  EXPECT_EQ(WaitOf(schedule, "long").behind, "wide");
}

TEST(BackfillTest, WhatTheReservationLeavesOver_MayRunForLong) {
  ScheduleSnapshot snapshot{.workers = Workers({4})};
  snapshot.workers[0].free = {3};
  snapshot.placed = {Running("r1", 3)};
  snapshot.placed[0].bound_seconds = 100;
  snapshot.queue = {Job("wide", 3), Job("long", 1), Job("longer", 1)};
  EXPECT_EQ(Of(PlanSchedule(snapshot)), "+long ");
}

TEST(BackfillTest, JobsWithoutLimits_PromiseNothing) {
  ScheduleSnapshot snapshot{.workers = Workers({4})};
  snapshot.workers[0].free = {3};
  snapshot.placed = {Running("r1", 3)};
  snapshot.queue = {Job("wide", 4), Job("short", 1)};
  snapshot.queue[1].bound_seconds = 1;
  EXPECT_EQ(Of(PlanSchedule(snapshot)), "");
}

TEST(KindsOfSlotsTest, DeviceAndMemory_AreBothMet) {
  ScheduleSnapshot snapshot{.workers = Workers({2, 2})};
  snapshot.workers[0].device = "cpu";
  snapshot.workers[1].device = "H100";
  snapshot.workers[1].memory_bytes = 80;
  snapshot.queue = {Job("big", 1), Job("gpu", 1), Job("any", 1)};
  snapshot.queue[0].memory_bytes = 81;
  snapshot.queue[1].device = "H100";
  const Schedule schedule = PlanSchedule(snapshot);
  EXPECT_EQ(Of(schedule), "+gpu +any ");
  EXPECT_EQ(schedule.placed[0].grants[0].worker_id, "w1");
  EXPECT_EQ(WaitOf(schedule, "big").code, WaitCode::kTooWide);
}

TEST(KindsOfSlotsTest, AWaitForOneKind_HoldsNothingOfAnother) {
  ScheduleSnapshot snapshot{.workers = Workers({2, 2})};
  snapshot.workers[0].device = "cpu";
  snapshot.workers[1].device = "H100";
  snapshot.workers[1].free = {};
  snapshot.queue = {Job("gpu", 1), Job("cpu", 1)};
  snapshot.queue[0].device = "H100";
  snapshot.queue[1].device = "cpu";
  EXPECT_EQ(Of(PlanSchedule(snapshot)), "+cpu ");
}

TEST(KindsOfSlotsTest, AnExcludedWorker_IsNotUsed) {
  ScheduleSnapshot snapshot{.workers = Workers({2, 2})};
  snapshot.queue = {Job("j1", 2), Job("j2", 3)};
  snapshot.queue[0].excluded_workers = snapshot.queue[1].excluded_workers = {"w0"};
  const Schedule schedule = PlanSchedule(snapshot);
  EXPECT_EQ(schedule.placed.at(0).grants[0].worker_id, "w1");
  EXPECT_EQ(WaitOf(schedule, "j2").reason,
            "needs 3 slots outside w0; all connected workers together have 2");
}

TEST(PreemptionPriceTest, SlotsTimesWhatIsLostAndRestored) {
  ScheduleSnapshot snapshot{.workers = Workers({4})};
  snapshot.workers[0].free = {};
  snapshot.placed = {Running("wide", 3), Running("narrow", 1)};
  snapshot.placed[0].lost_work_seconds = 10;
  snapshot.placed[1].lost_work_seconds = 10;
  snapshot.placed[1].restore_seconds = 15;
  snapshot.queue = {Job("now", 1)};
  snapshot.queue[0].priority = 1;
  const Schedule schedule = PlanSchedule(snapshot);
  EXPECT_EQ(Of(schedule), "-narrow ");
  EXPECT_EQ(schedule.preempted[0].lost_slot_seconds, 25);
}

TEST(PreemptionPriceTest, SeveralOfOnePriority_MakeRoomInOnePass) {
  ScheduleSnapshot snapshot{.workers = Workers({3})};
  snapshot.workers[0].free = {};
  snapshot.placed = {Running("r1", 1), Running("r2", 1), Running("r3", 1)};
  snapshot.queue = {Job("q1", 1), Job("q2", 1)};
  for (QueuedJob& job : snapshot.queue) job.priority = 1;
  const Schedule schedule = PlanSchedule(snapshot);
  EXPECT_EQ(schedule.preempted.size(), 2u);
  EXPECT_NE(schedule.preempted[0].job_id, schedule.preempted[1].job_id);
}

TEST(PreemptionPriceTest, WhatIsFreedForOne_IsNotGivenToAnother) {
  ScheduleSnapshot snapshot{.workers = Workers({2})};
  snapshot.workers[0].free = {1};
  snapshot.placed = {Running("victim", 1)};
  snapshot.placed[0].stopping = true;
  snapshot.queue = {Job("owner", 2), Job("thief", 1)};
  EXPECT_EQ(Of(PlanSchedule(snapshot)), "");
}

// A cluster on which jobs never end: passes must come to rest, or slots go round in circles.
TEST(SchedulePropertyTest, PreemptionsComeToRest_AndQuotasHold) {
  int preemptions = 0;
  for (unsigned seed = 0; seed < 400; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    ScheduleSnapshot world = TwoQueues({.quota = below(5)}, {.quota = below(5)});
    for (QueueRules& rules : world.queues) {
      if (below(3) == 0) rules.limit = 2 + below(6);
      if (below(3) == 0) rules.lends = below(3);
      rules.weight = 1 + below(3);
    }
    world.workers = Workers({1 + below(4), 1 + below(4), 1 + below(4)});
    std::map<std::string, QueuedJob> jobs;
    int rest = 0;
    for (int pass = 0; pass < 200 && rest < 3; ++pass) {
      if (pass < 20 && below(2) == 0) {
        QueuedJob job = Job("j" + std::to_string(pass), 1 + below(4), below(2));
        job.priority = below(4);
        jobs[job.job_id] = job;
        world.queue.push_back(job);
      }
      const Schedule schedule = PlanSchedule(world, {.minimum_run_seconds = 0});
      ASSERT_EQ(schedule.placed.size() + schedule.waiting.size(), world.queue.size());
      for (const PlacedJob& placed : schedule.placed) {
        const QueuedJob& job = jobs[placed.job_id];
        PlacedNow& now = world.placed.emplace_back();
        now.job_id = job.job_id;
        now.priority = job.priority;
        now.account = job.account;
        for (const SlotGrant& grant : placed.grants) {
          for (const int32_t slot : grant.slots) {
            now.slot_workers.push_back(grant.worker_id);
            for (WorkerSlots& worker : world.workers) {
              if (worker.worker_id == grant.worker_id) std::erase(worker.free, slot);
            }
          }
        }
        ASSERT_EQ(now.slot_workers.size(), static_cast<size_t>(job.slots));
        std::erase_if(world.queue, [&](const QueuedJob& q) { return q.job_id == job.job_id; });
      }
      for (const PreemptedJob& gone : schedule.preempted) {
        const auto it = std::find_if(world.placed.begin(), world.placed.end(),
                                     [&](const PlacedNow& p) { return p.job_id == gone.job_id; });
        ASSERT_NE(it, world.placed.end()) << "stopped twice";
        for (const std::string& id : it->slot_workers) {
          for (WorkerSlots& worker : world.workers) {
            if (worker.worker_id != id) continue;
            for (int32_t slot = 0; slot < worker.total; ++slot) {  // any that is held
              if (std::count(worker.free.begin(), worker.free.end(), slot) > 0) continue;
              worker.free.push_back(slot);
              std::sort(worker.free.begin(), worker.free.end());
              break;
            }
          }
        }
        world.placed.erase(it);
        world.queue.push_back(jobs[gone.job_id]);
        ++preemptions;
      }
      for (QueuedJob& job : world.queue) {
        job.owed =
            std::any_of(schedule.preempted.begin(), schedule.preempted.end(),
                        [&](const PreemptedJob& gone) { return gone.for_job_id == job.job_id; });
      }
      int64_t used[3] = {0, 0, 0};
      for (const PlacedNow& placed : world.placed) {
        used[placed.account] += static_cast<int64_t>(placed.slot_workers.size());
        used[2] += static_cast<int64_t>(placed.slot_workers.size());
      }
      for (int q = 0; q < 3; ++q) ASSERT_LE(used[q], world.queues[static_cast<size_t>(q)].limit);
      const bool idle = schedule.placed.empty() && schedule.preempted.empty();
      rest = pass >= 20 && idle ? rest + 1 : 0;
    }
    ASSERT_EQ(rest, 3) << "seed " << seed << " never comes to rest";
  }
  EXPECT_GT(preemptions, 100);
}

}  // namespace
}  // namespace moe::coordinator
