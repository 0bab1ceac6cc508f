#include "coordinator/job_table.h"

#include "core_fixture.h"

namespace moe::coordinator {
namespace {

class JobTableTest : public CoreFixture {};

TEST_F(JobTableTest, Submit_SameRequestId_ReturnsSameJobs) {
  const auto first = Submit({PrepareJob("corpus")}, "wish-1");
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = Submit({PrepareJob("corpus")}, "wish-1");
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(first->pipeline_id(), second->pipeline_id());
  EXPECT_EQ(first->jobs(0).job_id(), second->jobs(0).job_id());
  EXPECT_EQ(jobs_->queued().size(), 1u);
}

TEST_F(JobTableTest, Submit_SameRequestIdAfterRestart_ReturnsSameJobs) {
  const std::string job_id = Submit({PrepareJob("corpus")}, "wish-1")->jobs(0).job_id();
  RestartCoordinator();
  EXPECT_EQ(Submit({PrepareJob("corpus")}, "wish-1")->jobs(0).job_id(), job_id);
}

TEST_F(JobTableTest, Submit_SameRequestIdWithOtherJobs_IsRefused) {
  ASSERT_TRUE(Submit({PrepareJob("corpus")}, "wish-1").ok());
  const auto other = Submit({PrepareJob("corpus-2")}, "wish-1");
  EXPECT_EQ(other.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_NE(Message(other.status()).find("p1"), std::string::npos);
}

TEST_F(JobTableTest, Submit_TwiceInOneGroup_MakesOnePipeline) {
  v1::SubmitPipelineRequest request;
  request.set_request_id("wish-1");
  *request.add_jobs() = PrepareJob("corpus");
  const auto complete = CompletePipeline({PrepareJob("corpus")}, AgreeableFacts());
  queue_->Change([&](Turn& turn) {
    jobs_->Submit(turn, request, *complete, "someone");
    const auto known = jobs_->FindSubmission(request);  // before anything is on disk
    ASSERT_TRUE(known.ok() && known->has_value());
    EXPECT_EQ((*known)->jobs(0).job_id(), "j1");
  });
}

TEST_F(JobTableTest, Restart_KeepsJobsAndNeverReusesIds) {
  ASSERT_TRUE(Submit({PrepareJob("a"), PrepareJob("b")}, "wish-1").ok());
  const std::string before = Job("j2").SerializeAsString();
  RestartCoordinator();
  EXPECT_EQ(Job("j2").SerializeAsString(), before);
  EXPECT_EQ(Submit({PrepareJob("c")}, "wish-2")->jobs(0).job_id(), "j3");
  EXPECT_EQ(Job("j3").pipeline_id(), "p2");
}

TEST_F(JobTableTest, FindByIdOrName_TakesTheNewestOfAName) {
  ASSERT_TRUE(Submit({PrepareJob("corpus")}, "wish-1").ok());
  ASSERT_TRUE(Submit({PrepareJob("corpus")}, "wish-2").ok());
  EXPECT_EQ((*jobs_->FindByIdOrName("corpus"))->job().job_id(), "j2");
  EXPECT_EQ((*jobs_->FindByIdOrName("j1"))->job().job_id(), "j1");
  EXPECT_EQ(jobs_->FindByIdOrName("corpse").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(JobTableTest, List_PagesThroughAllJobsNewestFirst) {
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(Submit({PrepareJob("corpus")}, fmt::format("wish-{}", i)).ok());
  }
  std::vector<std::string> seen;
  uint64_t before = UINT64_MAX;
  while (true) {
    const v1::ListJobsResponse page = jobs_->List({}, 2, before);
    for (const v1::Job& job : page.jobs()) seen.push_back(job.job_id());
    if (page.next_page_token().empty()) break;
    before = *ParseJobId(page.next_page_token());
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"j5", "j4", "j3", "j2", "j1"}));
}

// The rule of WatchJobs: replay then follow, and each revision is seen once.
TEST_F(JobTableTest, Watch_FromAnyRevision_SeesEveryLaterChangeOnce) {
  std::vector<int64_t> all;
  jobs_->AddWatcher([](uint64_t) { return true; },
                    [&](const auto& message) { all.push_back(message->job().revision()); });
  ASSERT_TRUE(Submit({PrepareJob("a"), ConstructJob("b")}, "wish-1").ok());
  Connect("w1", 1);
  RankOutbox rank{.worker = "w1", .job = "j1"};
  Started(rank);
  ASSERT_TRUE(Cancel("j2").ok());
  const std::vector<int64_t> middle = all;
  ASSERT_GE(middle.size(), 5u);

  for (const int64_t from : middle) {
    std::vector<int64_t> seen;
    const auto replayed = jobs_->ChangesSince({}, from);
    ASSERT_TRUE(replayed.ok());
    for (const auto& message : *replayed) {
      // Progress without an event is only seen as the job's present state.
      seen.push_back(message->job().revision());
    }
    std::vector<int64_t> events;
    for (const uint64_t job : {1, 2}) {
      for (const v1::JobEvent& event : *store_->ListEvents(job, from)) {
        events.push_back(event.revision());
      }
    }
    std::sort(events.begin(), events.end());
    for (const int64_t revision : events) {
      EXPECT_EQ(std::count(seen.begin(), seen.end(), revision), 1) << "from " << from;
    }
    EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  }
}

TEST_F(JobTableTest, Watch_FromZero_StartsWithThePresentState) {
  ASSERT_TRUE(Submit({PrepareJob("a")}, "wish-1").ok());
  const auto present = jobs_->ChangesSince({}, 0);
  ASSERT_EQ(present->size(), 1u);
  EXPECT_EQ(present->front()->job().job_id(), "j1");
  EXPECT_FALSE(present->front()->has_event());
}

TEST_F(JobTableTest, Needs_Met_QueueTheNextJob) {
  ASSERT_TRUE(
      Submit({PrepareJob("corpus"), ConstructJob("moe"), TrainJob("train", "moe", "corpus")}, "w")
          .ok());
  EXPECT_EQ(State("j3"), v1::JOB_STATE_PENDING);
  EXPECT_EQ(Job("j3").reason(), "waits for j1, j2");
  Connect("w1", 1);
  RunToSuccess("w1", "j1");
  EXPECT_EQ(State("j3"), v1::JOB_STATE_PENDING);
  RunToSuccess("w1", "j2");
  EXPECT_EQ(State("j3"), v1::JOB_STATE_STARTING);
}

TEST_F(JobTableTest, Needs_Failed_FailAllThatFollows) {
  v1::JobSpec last = PrepareJob("last");
  last.add_needs("train");
  ASSERT_TRUE(
      Submit({PrepareJob("corpus"), ConstructJob("moe"), TrainJob("train", "moe", "corpus"), last},
             "w")
          .ok());
  ASSERT_TRUE(Cancel("j1").ok());
  EXPECT_EQ(State("j3"), v1::JOB_STATE_FAILED);
  EXPECT_EQ(Job("j3").cause(), v1::CAUSE_NEED_FAILED);
  EXPECT_EQ(State("j4"), v1::JOB_STATE_FAILED);
  EXPECT_EQ(State("j2"), v1::JOB_STATE_QUEUED);
}

// A job, and three that wait for its end in different ways.
std::vector<v1::JobSpec> WithFollowers(const std::string& first) {
  v1::JobSpec ok = PrepareJob("ok"), any = PrepareJob("any"), not_ok = PrepareJob("not-ok");
  ok.add_after_ok(first);
  any.add_after_any(first);
  not_ok.add_after_not_ok(first);
  return {ok, any, not_ok};
}

TEST_F(JobTableTest, Outcomes_Success_RunsWhatWaitsForIt) {
  std::vector<v1::JobSpec> jobs = WithFollowers("first");
  jobs.insert(jobs.begin(), PrepareJob("first"));
  ASSERT_TRUE(Submit(jobs, "w").ok());
  EXPECT_EQ(State("j2"), v1::JOB_STATE_PENDING);
  EXPECT_EQ(State("j4"), v1::JOB_STATE_PENDING);
  Connect("w1", 1);
  RunToSuccess("w1", "j1");
  EXPECT_EQ(State("j2"), v1::JOB_STATE_STARTING);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(State("j4"), v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(Job("j4").cause(), v1::CAUSE_NOT_NEEDED);
  EXPECT_EQ(Job("j4").reason(), "was to run only if j1 ('first') did not succeed, and it did");
}

TEST_F(JobTableTest, Outcomes_Failure_RunsWhatWaitsForThat) {
  std::vector<v1::JobSpec> jobs = WithFollowers("first");
  jobs.insert(jobs.begin(), PrepareJob("first"));
  ASSERT_TRUE(Submit(jobs, "w").ok());
  ASSERT_TRUE(Cancel("j1").ok());
  EXPECT_EQ(State("j2"), v1::JOB_STATE_FAILED);
  EXPECT_EQ(Job("j2").cause(), v1::CAUSE_NEED_FAILED);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(State("j4"), v1::JOB_STATE_QUEUED);
}

TEST_F(JobTableTest, Outcomes_OfAJobThatEndedLongAgo_AreKnownAtOnce) {
  ASSERT_TRUE(Submit({PrepareJob("first")}, "a").ok());
  ASSERT_TRUE(Cancel("j1").ok());
  RestartCoordinator();
  const auto answer = Submit(WithFollowers("j1"), "b");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->jobs(0).state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(answer->jobs(1).state(), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(answer->jobs(2).state(), v1::JOB_STATE_QUEUED);
}

TEST_F(JobTableTest, Outcomes_SurviveARestartInBetween) {
  std::vector<v1::JobSpec> jobs = WithFollowers("first");
  jobs.insert(jobs.begin(), PrepareJob("first"));
  ASSERT_TRUE(Submit(jobs, "w").ok());
  RestartCoordinator();
  ASSERT_TRUE(Cancel("j1").ok());
  EXPECT_EQ(State("j3"), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(State("j4"), v1::JOB_STATE_QUEUED);
}

TEST_F(JobTableTest, List_FiltersByLabelQueueAndUser) {
  v1::JobSpec a = PrepareJob("a"), b = PrepareJob("b");
  (*a.mutable_labels())["team"] = "search";
  (*a.mutable_labels())["stage"] = "one";
  (*b.mutable_labels())["team"] = "ads";
  ASSERT_TRUE(Submit({a, b}, "w").ok());
  const auto names = [&](const v1::ListJobsRequest& request) {
    const v1::ListJobsResponse page = jobs_->List(request, 10, UINT64_MAX);
    std::string text;
    for (const v1::Job& job : page.jobs()) text += job.spec().name() + " ";
    return text;
  };
  v1::ListJobsRequest request;
  (*request.mutable_labels())["team"] = "search";
  EXPECT_EQ(names(request), "a ");
  (*request.mutable_labels())["stage"] = "two";
  EXPECT_EQ(names(request), "") << "all labels are to be there";
  request.Clear();
  request.set_user("someone");
  EXPECT_EQ(names(request), "b a ");
  request.set_user("another");
  EXPECT_EQ(names(request), "");
  request.Clear();
  request.set_queue("default");
  EXPECT_EQ(names(request), "b a ");
  request.set_queue("def");
  EXPECT_EQ(names(request), "");
}

TEST_F(JobTableTest, Etag_ChangesWithTheJobAndNotWithItsProgress) {
  ASSERT_TRUE(Submit({PrepareJob("a")}, "w").ok());
  const std::string submitted = Job("j1").etag();
  EXPECT_FALSE(submitted.empty());
  Connect("w1", 1);
  const std::string placed = Job("j1").etag();
  EXPECT_NE(placed, submitted);
  RankOutbox rank{.worker = "w1", .job = "j1"};
  Started(rank);
  const std::string running = Job("j1").etag();
  v1::RankReport report;
  report.mutable_progress()->set_done(7);
  Report(rank, report);
  EXPECT_EQ(Job("j1").progress().done(), 7);
  EXPECT_EQ(Job("j1").etag(), running);
}

}  // namespace
}  // namespace moe::coordinator
