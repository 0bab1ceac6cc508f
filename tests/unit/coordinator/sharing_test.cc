// Queues through the coordinator's state: quotas, borrowing, what people are told of it, and how it
// survives a restart.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/queues/queue_file.h"
#include "core_fixture.h"

namespace moe::coordinator {
namespace {

using ::testing::HasSubstr;

class SharingTest : public CoreFixture {
 protected:
  // Restarts the coordinator with these queues.
  void UseQueues(const std::string& yaml) {
    const auto tree = ParseQueueFile(yaml, "queues.yaml");
    ASSERT_TRUE(tree.ok()) << tree.status();
    CloseCore();
    queue_tree_ = *tree;
    OpenCore();
  }
  static v1::JobSpec In(const std::string& queue, const std::string& name) {
    v1::JobSpec spec = PrepareJob(name);
    spec.set_queue(queue);
    return spec;
  }
  v1::ExplainJobResponse Why(const std::string& job) {
    return supervisor_->outlook().Explain(*jobs_->Find(job), Now());
  }
  v1::Queue QueueNamed(const std::string& name) {
    for (const v1::Queue& queue : supervisor_->outlook().Queues(clock_.MonotonicMillis())) {
      if (queue.name() == name) return queue;
    }
    ADD_FAILURE() << "no queue " << name;
    return {};
  }
};

TEST_F(SharingTest, Limit_KeepsTheNextJobWaitingAndWhyNamesIt) {
  UseQueues("default: a\nqueues:\n  a: {quota: 1, limit: 1}\n  b: {quota: 1}\n");
  Connect("w1", 3);
  ASSERT_TRUE(Submit({In("a", "one"), In("a", "two"), In("a", "three")}, "w").ok());
  EXPECT_EQ(State("j1"), v1::JOB_STATE_STARTING);
  EXPECT_EQ(State("j2"), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(Job("j2").cause(), v1::CAUSE_QUEUE_FULL);
  EXPECT_EQ(Job("j2").reason(), "needs 1 slot; queue 'a' may use 1");
  EXPECT_EQ(Why("j2").full_queue().name(), "a");
  EXPECT_EQ(Why("j2").full_queue().used_slots(), 1);
  EXPECT_EQ(Why("j3").full_queue().name(), "a") << "it waits for the same, behind the other";
  EXPECT_EQ(Why("j3").queue().queued_jobs(), 2);
}

TEST_F(SharingTest, Idle_IsLentAndTakenBackByWhoIsEntitled) {
  UseQueues("default: a\nqueues:\n  a: {quota: 1}\n  b: {quota: 1}\n");
  Connect("w1", 2);
  ASSERT_TRUE(Submit({In("a", "one"), In("a", "two")}, "a").ok());
  EXPECT_EQ(State("j2"), v1::JOB_STATE_STARTING) << "it borrows what b leaves idle";
  EXPECT_EQ(QueueNamed("a").used_slots(), 2);
  Advance(35000);  // beyond the minimum run time
  Heartbeat("w1");
  ASSERT_TRUE(Submit({In("b", "three")}, "b").ok());
  EXPECT_EQ(State("j3"), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(State("j1") == v1::JOB_STATE_STOPPING, State("j2") != v1::JOB_STATE_STOPPING);
  const std::string victim = State("j1") == v1::JOB_STATE_STOPPING ? "j1" : "j2";
  EXPECT_THAT(Job(victim).reason(), HasSubstr("within the quota of queue 'b'"));
  RankOutbox rank{.worker = "w1", .job = victim};
  Exited(rank, 0, 0);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_STARTING) << "what was freed is its own";
  EXPECT_EQ(State(victim), v1::JOB_STATE_QUEUED);
}

TEST_F(SharingTest, FairShare_SurvivesARestart) {
  UseQueues("default: a\nqueues:\n  a: {quota: 1}\n  b: {quota: 1}\n");
  Connect("w1", 1);
  ASSERT_TRUE(Submit({In("a", "used")}, "w1").ok());
  RankOutbox rank{.worker = "w1", .job = "j1"};
  Started(rank);
  Advance(20000);
  Heartbeat("w1");
  Artefact(rank, "", 0);
  Finished(rank);
  Exited(rank, 0, 0);
  EXPECT_NEAR(QueueNamed("a").usage_slot_seconds(), 20, 0.1);
  RestartCoordinator();
  EXPECT_NEAR(QueueNamed("a").usage_slot_seconds(), 20, 0.1);
  // Of two that wait, the queue that has used less comes first, though it came later.
  ASSERT_TRUE(Submit({In("a", "again")}, "w2").ok());
  ASSERT_TRUE(Submit({In("b", "first-time")}, "w3").ok());
  Connect("w1", 1);
  EXPECT_EQ(State("j2"), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_STARTING);
}

TEST_F(SharingTest, AQueueThatIsGone_LeavesItsJobsToTheDefaultOne) {
  UseQueues("default: a\nqueues:\n  a: {quota: 1}\n  b: {quota: 1}\n");
  ASSERT_TRUE(Submit({In("b", "one")}, "w").ok());
  UseQueues("default: a\nqueues:\n  a: {quota: 1}\n");
  EXPECT_EQ(Why("j1").queue().name(), "a");
  Connect("w1", 1);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_STARTING);
}

TEST_F(SharingTest, QueuesAbove_CountWhatIsBelow) {
  UseQueues(
      "default: top/a\nqueues:\n  top:\n    quota: 2\n    queues:\n"
      "      a: {quota: 1}\n      b: {quota: 1}\n");
  Connect("w1", 1);
  ASSERT_TRUE(Submit({In("top/a", "one"), In("top/b", "two")}, "w").ok());
  EXPECT_EQ(QueueNamed("top").used_slots(), 1);
  EXPECT_EQ(QueueNamed("top").placed_jobs(), 1);
  EXPECT_EQ(QueueNamed("top").queued_jobs(), 1);
  EXPECT_EQ(QueueNamed("top").queued_slots(), 1);
}

TEST_F(SharingTest, SlotKinds_AreThoseThatTheJobAskedFor) {
  Connect("w1", 1);
  v1::JobSpec gpu = PrepareJob("gpu"), large = PrepareJob("large");
  gpu.mutable_resources()->set_device("H100");
  large.mutable_resources()->set_memory_gib(80);
  ASSERT_TRUE(Submit({gpu, large}, "w").ok());
  EXPECT_EQ(Job("j1").reason(), "needs 1 slot on 'H100'; all connected workers together have 0");
  EXPECT_EQ(Job("j2").reason(),
            "needs 1 slot with 80.0 GiB each; all connected workers together have 0");
  // A worker with a slot of either kind.
  v1::Register hello;
  hello.set_worker_id("w2");
  hello.set_protocol_version(1);
  v1::Slot& first = *hello.add_slots();
  first.set_device("H100");
  first.set_memory_bytes(int64_t{40} << 30);
  v1::Slot& second = *hello.add_slots();
  second.set_index(1);
  second.set_device("A100");
  second.set_memory_bytes(int64_t{80} << 30);
  sessions_["w2"] = std::make_shared<FakeSession>();
  queue_->Change(
      [&](Turn& turn) { ASSERT_TRUE(supervisor_->OnRegister(turn, hello, sessions_["w2"]).ok()); });
  ASSERT_EQ(Job("j1").placements_size(), 1);
  EXPECT_EQ(Job("j1").placements(0).worker_id(), "w2");
  EXPECT_EQ(Job("j1").placements(0).slots(0), 0);
  ASSERT_EQ(Job("j2").placements_size(), 1);
  EXPECT_EQ(Job("j2").placements(0).slots(0), 1);
}

TEST_F(SharingTest, Plan_SaysWhoStartsWhoWaitsAndWhoIsStoppedAndChangesNothing) {
  Connect("w1", 1);
  ASSERT_TRUE(Submit({PrepareJob("runs")}, "w").ok());
  Advance(35000);
  Heartbeat("w1");
  v1::JobSpec urgent = PrepareJob("urgent"), after = PrepareJob("after");
  urgent.set_priority(5);
  after.add_needs("urgent");
  const AgreeableFacts facts(&queue_tree_, jobs_.get());
  const auto complete = CompletePipeline({urgent, after, PrepareJob("patient")}, facts);
  ASSERT_TRUE(complete.ok()) << complete.status();
  const int64_t revision = jobs_->revision();
  const v1::PlanPipelineResponse plan = supervisor_->outlook().Plan(*complete, "me", Now());
  ASSERT_EQ(plan.jobs_size(), 3);
  EXPECT_TRUE(plan.jobs(0).placements().empty());
  ASSERT_EQ(plan.jobs(0).stops_size(), 1);
  EXPECT_EQ(plan.jobs(0).stops(0).job_id(), "j1");
  EXPECT_NEAR(plan.jobs(0).stops(0).lost_slot_seconds(), 35, 0.1);
  EXPECT_EQ(plan.jobs(1).cause(), v1::CAUSE_NEEDS_UNMET);
  EXPECT_EQ(plan.jobs(1).reason(), "waits for urgent");
  EXPECT_EQ(plan.jobs(2).cause(), v1::CAUSE_NO_FREE_SLOTS);
  EXPECT_EQ(jobs_->revision(), revision);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_STARTING);
}

}  // namespace
}  // namespace moe::coordinator
