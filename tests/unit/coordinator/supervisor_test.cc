#include "coordinator/supervisor.h"

#include "common/json.h"
#include "core_fixture.h"

namespace moe::coordinator {
namespace {

using Kind = v1::SessionResponse::MessageCase;

class SupervisorTest : public CoreFixture {
 protected:
  // corpus (j1) and moe (j2) exist; train (j3) has been placed on w1.
  void StartTraining(int slots = 1, int keep = 2) {
    v1::JobSpec train = TrainJob("train", "moe", "corpus");
    train.mutable_resources()->set_slots(slots);
    train.mutable_train()->mutable_checkpoint()->set_keep(keep);
    train.mutable_train()->set_micro_batch_samples(1);
    ASSERT_TRUE(Submit({PrepareJob("corpus"), ConstructJob("moe"), train}, "wish").ok());
    Connect("w1", slots);
    RunToSuccess("w1", "j1");
    RunToSuccess("w1", "j2");
    ASSERT_EQ(State("j3"), v1::JOB_STATE_STARTING) << Job("j3").reason();
  }
  std::vector<std::string> CheckpointsOf(const std::string& job) {
    std::vector<std::string> references;
    for (const v1::Artefact* artefact : catalog_->MadeBy(job)) {
      references.push_back(ArtefactReference(*artefact));
    }
    return references;
  }
};

TEST_F(SupervisorTest, Place_SendsRunSpecWithResolvedInputs) {
  StartTraining();
  const auto starts = Sent("w1", Kind::kStart);
  const v1::StartAttempt& start = starts.back().start();
  EXPECT_EQ(start.attempt().job_id(), "j3");
  EXPECT_EQ(start.kind(), "train");
  ASSERT_EQ(start.ranks_size(), 1);
  const Json spec = Json::parse(start.run_spec_json());
  EXPECT_EQ(spec["format"], "moe-run-spec");
  EXPECT_EQ(spec["world_size"], 1);
  EXPECT_EQ(spec["output"]["dir"], (folder_ / "artefacts/checkpoint/j3.1").string());
  EXPECT_EQ(spec["inputs"]["model"]["artefact"], "moe:1");
  EXPECT_EQ(spec["inputs"]["model"]["path"], (folder_ / "artefacts/model/j2.1").string());
  EXPECT_EQ(spec["inputs"]["model"]["manifest_crc32c"], 7);
  EXPECT_EQ(spec["spec"]["global_batch_samples"], 8);
  EXPECT_EQ(spec["spec"]["seed"], "1227");
  EXPECT_FALSE(spec.contains("resume"));
}

TEST_F(SupervisorTest, StartAttempt_IsRepeatedUntilTheRankReports) {
  StartTraining();
  const size_t before = Sent("w1", Kind::kStart).size();
  Heartbeat("w1");
  EXPECT_EQ(Sent("w1", Kind::kStart).size(), before + 1);
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_RUNNING);
  Heartbeat("w1");
  EXPECT_EQ(Sent("w1", Kind::kStart).size(), before + 1);
}

TEST_F(SupervisorTest, Reports_SentAgain_AreAppliedOnceAndAcknowledged) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  Step(rank, 1, 14.8);
  const int64_t revision = Job("j3").revision();
  ASSERT_TRUE(Resend(rank, 1).ok());
  EXPECT_EQ(Job("j3").revision(), revision);
  EXPECT_EQ(Sent("w1", Kind::kReportAck).back().report_ack().seq(), 2);
}

TEST_F(SupervisorTest, Reports_WithAGap_EndTheSession) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  v1::RankReport report;
  report.set_seq(5);
  report.mutable_step()->set_step(4);
  rank.reports.push_back(report);
  EXPECT_EQ(Resend(rank, 2).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(Job("j3").progress().last_step().step(), 0);
}

TEST_F(SupervisorTest, Reports_OfAStaleAttempt_ChangeNothingAndAreForgotten) {
  StartTraining();
  RankOutbox first{.worker = "w1", .job = "j3"};
  Started(first);
  Exited(first, -1, 9);
  Advance(1000);
  ASSERT_EQ(Job("j3").attempt(), 2);

  Step(first, 1, 14.8);
  EXPECT_EQ(Job("j3").progress().last_step().step(), 0);
  EXPECT_EQ(observer_.stale_messages, 1);
  EXPECT_EQ(Sent("w1", Kind::kForget).back().forget().attempt().attempt(), 1);
}

TEST_F(SupervisorTest, Reports_OfAnotherWorkersAttempt_ChangeNothing) {
  StartTraining();
  Connect("w2", 1);
  RankOutbox impostor{.worker = "w2", .job = "j3"};
  Started(impostor);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_STARTING);
  EXPECT_EQ(observer_.stale_messages, 1);
}

TEST_F(SupervisorTest, Steps_AreStoredOncePerStep) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  for (int step = 1; step <= 3; ++step) Step(rank, step, 15.0 - step);
  const auto steps = store_->ListSteps(3, 0, 10);
  ASSERT_EQ(steps->size(), 3u);
  EXPECT_EQ((*steps)[2].loss(), 12.0);
  EXPECT_EQ(Job("j3").progress().done(), 3);
  EXPECT_EQ(Job("j3").progress().total(), 40);
}

TEST_F(SupervisorTest, Steps_ReplayedWithOtherBits_AreCounted) {
  StartTraining();
  RankOutbox first{.worker = "w1", .job = "j3"};
  Started(first);
  Step(first, 1, 14.8);
  Step(first, 2, 14.5);
  Exited(first, -1, 9);
  Advance(1000);
  RankOutbox second{.worker = "w1", .job = "j3", .attempt = 2};
  Started(second);
  Step(second, 1, 14.8);
  EXPECT_EQ(observer_.replay_mismatches, 0);
  Step(second, 2, std::nextafter(14.5, 15.0));
  EXPECT_EQ(observer_.replay_mismatches, 1);
  EXPECT_EQ(store_->ListSteps(3, 0, 10)->size(), 2u);
}

// --- artefacts

TEST_F(SupervisorTest, Checkpoint_Committed_IsCataloguedResumedFromAndAnswered) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  const std::string path = Artefact(rank, "step-00000010", 10);
  ASSERT_NE(catalog_->Find("train:1"), nullptr);
  EXPECT_EQ(catalog_->Find("train")->step(), 10);
  const Json command = Json::parse(Sent("w1", Kind::kCommand).back().command().json());
  EXPECT_EQ(command["type"], "artefact");
  EXPECT_EQ(command["path"], path);
  EXPECT_EQ(command["committed"], true);

  Exited(rank, -1, 9);
  Advance(1000);
  const Json spec = Json::parse(Sent("w1", Kind::kStart).back().start().run_spec_json());
  EXPECT_EQ(spec["attempt"], 2);
  EXPECT_EQ(spec["resume"]["path"], path);
  EXPECT_EQ(spec["resume"]["step"], 10);
}

TEST_F(SupervisorTest, Checkpoint_Unverified_IsRefusedAndTheRunGoesOn) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  files_.bad_[folder_ / "artefacts/checkpoint/j3.1/step-00000010"] = DataLoss("wrong CRC-32C");
  Artefact(rank, "step-00000010", 10);
  EXPECT_EQ(catalog_->Find("train"), nullptr);
  EXPECT_EQ(observer_.checkpoint_failures, 1);
  const Json command = Json::parse(Sent("w1", Kind::kCommand).back().command().json());
  EXPECT_EQ(command["committed"], false);
  EXPECT_NE(command["error"].get<std::string>().find("wrong CRC-32C"), std::string::npos);
  Step(rank, 11, 9.0);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(Job("j3").progress().done(), 11);
}

TEST_F(SupervisorTest, Checkpoint_Damaged_IsLeftForTheOneBefore) {
  StartTraining(/*slots=*/1, /*keep=*/2);
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  const std::string first = Artefact(rank, "step-00000010", 10);
  Artefact(rank, "step-00000020", 20);
  Exited(rank, -1, 9);
  const auto present_run = [&] {
    Advance(5000);
    return Json::parse(Sent("w1", Kind::kStart).back().start().run_spec_json());
  };
  const auto fail = [&](int32_t attempt) {
    RankOutbox failing{.worker = "w1", .job = "j3", .attempt = attempt};
    Started(failing);
    Failed(failing, v1::CAUSE_DAMAGED_CHECKPOINT, "resuming: wrong CRC-32C");
    Exited(failing, 1, 0);
  };
  EXPECT_EQ(present_run()["resume"]["step"], 20);
  fail(2);
  EXPECT_EQ(CheckpointsOf("j3"), std::vector<std::string>{"train:1"});
  EXPECT_EQ(Job("j3").outputs_size(), 1);
  RestartCoordinator();
  Connect("w1", 1);
  const Json third = present_run();
  EXPECT_EQ(third["attempt"], 3);
  EXPECT_EQ(third["resume"]["step"], 10);
  EXPECT_EQ(third["resume"]["path"], first);

  fail(3);
  EXPECT_TRUE(CheckpointsOf("j3").empty());
  const Json fourth = present_run();
  EXPECT_EQ(fourth["attempt"], 4);
  EXPECT_FALSE(fourth.contains("resume"));
  // A new checkpoint has a name of its own.
  RankOutbox last{.worker = "w1", .job = "j3", .attempt = 4};
  Started(last);
  Artefact(last, "step-00000010", 10);
  EXPECT_EQ(CheckpointsOf("j3"), std::vector<std::string>{"train:3"});
}

TEST_F(SupervisorTest, Artefact_OutsideTheAttemptsFolder_IsRefused) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  Artefact(rank, "../j2.1", 10);
  Artefact(rank, "x/../../j2.1", 10);
  EXPECT_EQ(catalog_->Find("train"), nullptr);
}

TEST_F(SupervisorTest, Reports_AfterAnArtefact_WaitForItsCheck) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  file_work_.Hold();
  Artefact(rank, "step-00000010", 10);
  Step(rank, 11, 9.0);
  Finished(rank);
  Exited(rank, 0, 0);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(Sent("w1", Kind::kReportAck).back().report_ack().seq(), 1);
  file_work_.Release();
  EXPECT_EQ(State("j3"), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(Job("j3").outputs(0), "train:1");
}

TEST_F(SupervisorTest, Artefact_CheckedAfterTheAttemptWasLost_IsNotCommitted) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  file_work_.Hold();
  Artefact(rank, "step-00000010", 10);
  Advance(36000);
  file_work_.Release();
  EXPECT_EQ(catalog_->Find("train"), nullptr);
  EXPECT_TRUE(files_.tidied_.contains(folder_ / "artefacts/checkpoint/j3.1"));
}

TEST_F(SupervisorTest, Retention_KeepsTheNewestAndRemovesCatalogueEntryBeforeFolder) {
  StartTraining(/*slots=*/1, /*keep=*/2);
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  const std::string first = Artefact(rank, "step-00000010", 10);
  Artefact(rank, "step-00000020", 20);
  EXPECT_TRUE(files_.removed_.empty());
  Artefact(rank, "step-00000030", 30);
  EXPECT_EQ(CheckpointsOf("j3"), (std::vector<std::string>{"train:2", "train:3"}));
  EXPECT_EQ(files_.removed_, std::vector<std::string>{first});
  EXPECT_EQ(Job("j3").outputs_size(), 2);
  RestartCoordinator();
  EXPECT_EQ(CheckpointsOf("j3"), (std::vector<std::string>{"train:2", "train:3"}));
}

TEST_F(SupervisorTest, Retention_SparesWhatALiveJobReads) {
  StartTraining(/*slots=*/1, /*keep=*/1);
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  Artefact(rank, "step-00000010", 10);
  // Another job, queued, names this very version.
  v1::JobSpec exporting;
  exporting.set_name("keep-it");
  exporting.mutable_export_()->mutable_model()->set_artefact("train:1");
  exporting.mutable_export_()->set_output("kept");
  v1::SubmitPipelineRequest request;
  request.set_request_id("other");
  exporting.mutable_resources()->set_slots(1);
  queue_->Change([&](Turn& turn) { jobs_->Submit(turn, request, {{exporting, {}}}, "someone"); });
  Artefact(rank, "step-00000020", 20);
  EXPECT_EQ(CheckpointsOf("j3"), (std::vector<std::string>{"train:1", "train:2"}));
}

TEST_F(SupervisorTest, Versions_AreNeverReused) {
  StartTraining(/*slots=*/1, /*keep=*/1);
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  Artefact(rank, "step-00000010", 10);
  Artefact(rank, "step-00000020", 20);
  RestartCoordinator();
  Connect("w1", 1, {{"j3", 1}});
  Artefact(rank, "step-00000030", 30);
  EXPECT_EQ(CheckpointsOf("j3"), std::vector<std::string>{"train:3"});
}

// --- ends

TEST_F(SupervisorTest, Finish_WithoutAnOutput_IsAnInternalFailure) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  Finished(rank);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(Job("j3").cause(), v1::CAUSE_INTERNAL);
}

TEST_F(SupervisorTest, Success_HoldsTheSlotUntilTheRankIsGone) {
  ASSERT_TRUE(Submit({PrepareJob("a"), PrepareJob("b")}, "wish").ok());
  Connect("w1", 1);
  RankOutbox rank{.worker = "w1", .job = "j1"};
  Started(rank);
  Artefact(rank, "", 0);
  Finished(rank);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(State("j2"), v1::JOB_STATE_QUEUED);
  ASSERT_TRUE(Log(rank, 0, "last words").ok());
  Exited(rank, 0, 0);
  EXPECT_EQ(State("j2"), v1::JOB_STATE_STARTING);
  EXPECT_EQ(Sent("w1", Kind::kForget).back().forget().attempt().job_id(), "j1");
  EXPECT_EQ(store_->ReadLog({1, 1, 0}, 0, 100)->bytes, "last words");
}

TEST_F(SupervisorTest, BadInput_FailsAtOnceWithTheRanksOwnWords) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  Failed(rank, v1::CAUSE_BAD_INPUT, "the shard is corrupt");
  EXPECT_EQ(State("j3"), v1::JOB_STATE_FAILED);
  EXPECT_EQ(Job("j3").cause(), v1::CAUSE_BAD_INPUT);
  EXPECT_EQ(Job("j3").reason(), "rank 0: the shard is corrupt");
}

TEST_F(SupervisorTest, RankDied_RetriesWithDoublingBackoffUpToTheLimit) {
  v1::JobSpec spec = PrepareJob("corpus");
  spec.set_max_infrastructure_retries(2);
  ASSERT_TRUE(Submit({spec}, "wish").ok());
  Connect("w1", 1);
  for (const auto& [attempt, backoff_ms] : {std::pair{1, 1000}, {2, 2000}}) {
    ASSERT_EQ(Job("j1").attempt(), attempt);
    RankOutbox rank{.worker = "w1", .job = "j1", .attempt = attempt};
    Started(rank);
    Exited(rank, -1, 9);
    EXPECT_EQ(State("j1"), v1::JOB_STATE_QUEUED);
    EXPECT_EQ(Job("j1").cause(), v1::CAUSE_RANK_DIED);
    EXPECT_NE(Job("j1").reason().find("signal 9 (Killed)"), std::string::npos)
        << Job("j1").reason();
    Advance(backoff_ms - 1);
    EXPECT_EQ(State("j1"), v1::JOB_STATE_QUEUED);
    Advance(1);
    EXPECT_EQ(State("j1"), v1::JOB_STATE_STARTING);
  }
  RankOutbox rank{.worker = "w1", .job = "j1", .attempt = 3};
  Started(rank);
  Exited(rank, 3, 0);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_FAILED);
  EXPECT_NE(Job("j1").reason().find("max_infrastructure_retries=2"), std::string::npos);
}

TEST_F(SupervisorTest, WorkerOnWhichItFailedTwice_IsAvoidedWhereAnotherCouldHoldTheJob) {
  Connect("w1", 1);
  ASSERT_TRUE(Submit({PrepareJob("corpus")}, "r1").ok());
  const auto fail = [&](const std::string& worker) {
    ASSERT_EQ(Job("j1").placements(0).worker_id(), worker);
    RankOutbox rank{.worker = worker, .job = "j1", .attempt = Job("j1").attempt()};
    Started(rank);
    Exited(rank, -1, 9);
    for (const auto& [id, session] : sessions_) Heartbeat(id);
    Advance(9000);  // past every back-off, and nobody is late
  };
  fail("w1");
  fail("w1");
  fail("w1");  // there is no other
  Connect("w2", 1);
  fail("w1");  // it was placed before the other came
  EXPECT_EQ(Job("j1").placements(0).worker_id(), "w2");
}

TEST_F(SupervisorTest, Backoff_OverByTheWallClockFirst_IsNotMissed) {
  ASSERT_TRUE(Submit({PrepareJob("corpus")}, "wish").ok());
  Connect("w1", 1);
  RankOutbox rank{.worker = "w1", .job = "j1"};
  Started(rank);
  Exited(rank, -1, 9);
  Advance(999);
  clock_.unix_millis += 1;  // the monotonic clock is in another part of its millisecond
  Heartbeat("w1");
  EXPECT_EQ(State("j1"), v1::JOB_STATE_STARTING);
}

TEST_F(SupervisorTest, Backoff_OverByTheMonotonicClockFirst_IsNotMissed) {
  ASSERT_TRUE(Submit({PrepareJob("corpus")}, "wish").ok());
  Connect("w1", 1);
  RankOutbox rank{.worker = "w1", .job = "j1"};
  Started(rank);
  Exited(rank, -1, 9);
  Advance(999);
  clock_.monotonic_millis += 1;
  Heartbeat("w1");
  EXPECT_EQ(State("j1"), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(supervisor_->NextDeadlineMillis(), clock_.monotonic_millis + 1);
  clock_.unix_millis += 1;
  Heartbeat("w1");
  EXPECT_EQ(State("j1"), v1::JOB_STATE_STARTING);
}

TEST_F(SupervisorTest, LeaseExpired_IsTriedAgainUncounted) {
  ASSERT_TRUE(Submit({PrepareJob("corpus")}, "wish").ok());
  Connect("w1", 1);
  RankOutbox rank{.worker = "w1", .job = "j1"};
  Started(rank);
  v1::RankReport report;
  report.mutable_stopped()->set_cause(v1::CAUSE_LEASE_EXPIRED);
  Report(rank, report);
  Exited(rank, 0, 0);
  EXPECT_EQ(Job("j1").infrastructure_failures(), 0);
  EXPECT_EQ(Job("j1").attempt(), 2);
}

TEST_F(SupervisorTest, Gang_OneRankFails_OthersAreStoppedAndTheTellingCauseWins) {
  StartTraining(/*slots=*/2);
  RankOutbox rank0{.worker = "w1", .job = "j3", .rank = 0};
  RankOutbox rank1{.worker = "w1", .job = "j3", .rank = 1};
  Started(rank0);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_STARTING);
  Started(rank1);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_RUNNING);
  Failed(rank1, v1::CAUSE_COLLECTIVE_FAILED, "rank 0 does not answer");
  EXPECT_EQ(Sent("w1", Kind::kStop).size(), 1u);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_RUNNING);
  Failed(rank0, v1::CAUSE_OUT_OF_MEMORY, "cannot allocate 3 GiB");
  EXPECT_EQ(State("j3"), v1::JOB_STATE_FAILED);
  EXPECT_EQ(Job("j3").cause(), v1::CAUSE_OUT_OF_MEMORY);
}

TEST_F(SupervisorTest, Rendezvous_ReachesAllRanksAndThoseThatReconnect) {
  StartTraining(/*slots=*/2);
  RankOutbox rank0{.worker = "w1", .job = "j3", .rank = 0};
  Started(rank0);
  v1::RankReport report;
  report.mutable_rendezvous_put()->set_key("gloo/0");
  report.mutable_rendezvous_put()->set_value("address");
  Report(rank0, report);
  const auto first = Sent("w1", Kind::kCommand).back().command();
  EXPECT_EQ(first.rank(), -1);
  EXPECT_EQ(Json::parse(first.json())["value"], "YWRkcmVzcw==");
  RestartCoordinator();
  Connect("w1", 2, {{"j3", 1}});
  EXPECT_EQ(Sent("w1", Kind::kCommand).back().command().json(), first.json());
}

// An attempt that prepares text leaves its work to the next one, until the job has ended.
TEST_F(SupervisorTest, UnfinishedWork_GoesWithTheJobAndNotWithTheAttempt) {
  v1::JobSpec other = PrepareJob("other");
  ASSERT_TRUE(Submit({PrepareJob("corpus"), other}, "wish").ok());
  Connect("w1", 1);
  RankOutbox rank{.worker = "w1", .job = "j1"};
  const Json output =
      Json::parse(Sent("w1", Kind::kStart).back().start().run_spec_json())["output"];
  const std::string work = output["work_dir"];
  EXPECT_NE(work, output["dir"]);
  Started(rank);
  Exited(rank, -1, 9);
  ASSERT_EQ(State("j1"), v1::JOB_STATE_QUEUED);
  EXPECT_TRUE(files_.tidied_.contains(output["dir"]));
  EXPECT_FALSE(files_.tidied_.contains(work));
  ASSERT_TRUE(Cancel("j1").ok());
  EXPECT_EQ(State("j1"), v1::JOB_STATE_CANCELLED);
  EXPECT_TRUE(files_.tidied_.contains(work));

  RankOutbox second{.worker = "w1", .job = "j2"};
  const std::string work_of_second =
      Json::parse(Sent("w1", Kind::kStart).back().start().run_spec_json())["output"]["work_dir"];
  EXPECT_NE(work_of_second, work);
  Started(second);
  Failed(second, v1::CAUSE_BAD_INPUT, "no text");
  Exited(second, 1, 0);
  EXPECT_EQ(State("j2"), v1::JOB_STATE_FAILED);
  EXPECT_TRUE(files_.tidied_.contains(work_of_second));
}

TEST_F(SupervisorTest, Cancel_Running_StopsTheRanksFirst) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  ASSERT_TRUE(Cancel("j3").ok());
  EXPECT_EQ(State("j3"), v1::JOB_STATE_STOPPING);
  EXPECT_EQ(Sent("w1", Kind::kStop).back().stop().reason(), "cancel");
  ASSERT_TRUE(Cancel("j3").ok());
  v1::RankReport report;
  report.mutable_stopped()->set_cause(v1::CAUSE_CANCELLED);
  Report(rank, report);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_STOPPING);
  Exited(rank, 0, 0);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(Job("j3").reason(), "cancelled: enough");
  EXPECT_TRUE(Cancel("j3").ok());
  EXPECT_EQ(Cancel("j1").code(), absl::StatusCode::kFailedPrecondition);
}

// --- pre-emption and hold

TEST_F(SupervisorTest, HigherPriority_TakesTheSlotAndTheOtherComesBack) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  Artefact(rank, "step-00000010", 10);
  v1::JobSpec urgent = PrepareJob("urgent");
  urgent.set_priority(5);
  ASSERT_TRUE(Submit({urgent}, "urgent").ok());
  EXPECT_EQ(State("j3"), v1::JOB_STATE_RUNNING);  // the minimum run time
  Advance(29000);
  Heartbeat("w1");
  EXPECT_EQ(State("j3"), v1::JOB_STATE_RUNNING);
  Advance(2000);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_STOPPING);
  EXPECT_EQ(Job("j3").cause(), v1::CAUSE_PREEMPTED);
  EXPECT_EQ(Job("j3").reason(), "pre-empted for j4 ('urgent', priority 5 above 0)");
  EXPECT_EQ(Sent("w1", Kind::kStop).back().stop().reason(), "drain");
  EXPECT_EQ(State("j4"), v1::JOB_STATE_QUEUED);

  Artefact(rank, "step-00000017", 17);  // the checkpoint that it writes before it goes
  v1::RankReport report;
  report.mutable_stopped()->set_cause(v1::CAUSE_DRAINED);
  Report(rank, report);
  Exited(rank, 0, 0);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(Job("j3").preemptions(), 1);
  EXPECT_EQ(Job("j3").infrastructure_failures(), 0);
  EXPECT_EQ(State("j4"), v1::JOB_STATE_STARTING);

  RunToSuccess("w1", "j4");
  EXPECT_EQ(State("j3"), v1::JOB_STATE_STARTING);
  EXPECT_EQ(Job("j3").attempt(), 2);
  const Json spec = Json::parse(Sent("w1", Kind::kStart).back().start().run_spec_json());
  EXPECT_EQ(spec["resume"]["step"], 17);
}

TEST_F(SupervisorTest, Preempted_StateSurvivesARestartAndACancelStillCounts) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  ASSERT_TRUE(Preempt("j3").ok());
  ASSERT_TRUE(Preempt("j3").ok());
  EXPECT_EQ(Job("j3").preemptions(), 1);
  RestartCoordinator();
  Connect("w1", 1, {{"j3", 1}});
  EXPECT_EQ(Sent("w1", Kind::kStop).back().stop().reason(), "drain");
  ASSERT_TRUE(Cancel("j3").ok());
  EXPECT_EQ(Sent("w1", Kind::kStop).back().stop().reason(), "cancel");
  Exited(rank, 0, 0);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(Preempt("j3").code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(SupervisorTest, Preempted_JobThatFinishesMeanwhile_HasSucceeded) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  ASSERT_TRUE(Preempt("j3").ok());
  Artefact(rank, "step-00000040", 40);
  v1::RankReport report;
  report.mutable_finished()->set_summary("40 steps");
  Report(rank, report);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(SupervisorTest, Held_DoesNotStartUntilReleased) {
  ASSERT_TRUE(Submit({PrepareJob("corpus")}, "wish").ok());
  ASSERT_TRUE(Hold("j1").ok());
  ASSERT_TRUE(Hold("j1").ok());
  EXPECT_EQ(State("j1"), v1::JOB_STATE_PENDING);
  EXPECT_EQ(Job("j1").cause(), v1::CAUSE_HELD);
  RestartCoordinator();
  Connect("w1", 1);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_PENDING);
  ASSERT_TRUE(Release("j1").ok());
  EXPECT_EQ(State("j1"), v1::JOB_STATE_STARTING);
  ASSERT_TRUE(Release("j1").ok());
  RunToSuccess("w1", "j1");
  EXPECT_EQ(Hold("j1").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Release("j1").code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(SupervisorTest, HeldWhileItRuns_StopsAndWaitsForTheRelease) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  ASSERT_TRUE(Hold("j3").ok());
  EXPECT_EQ(State("j3"), v1::JOB_STATE_STOPPING);
  Exited(rank, 0, 0);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_PENDING);
  EXPECT_TRUE(Job("j3").held());
  ASSERT_TRUE(Release("j3").ok());
  EXPECT_EQ(State("j3"), v1::JOB_STATE_STARTING);
}

TEST_F(SupervisorTest, Explain_NamesWhoIsAheadAndWhoGivesWay) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  Advance(25000);
  Heartbeat("w1");
  v1::JobSpec second = PrepareJob("second");
  second.mutable_resources()->set_preemptible(false);
  ASSERT_TRUE(Submit({PrepareJob("first")}, "a").ok());
  ASSERT_TRUE(Submit({second}, "b").ok());
  const v1::ExplainJobResponse why = supervisor_->outlook().Explain(*jobs_->Find("j5"), Now());
  EXPECT_EQ(why.ahead_job_ids_size(), 1);
  EXPECT_EQ(why.ahead_job_ids(0), "j4");
  EXPECT_EQ(why.total_slots(), 1);
  EXPECT_EQ(why.free_slots(), 0);
}

// --- lost and found

TEST_F(SupervisorTest, WorkerSilent_JobMovesToAnotherAfterLeaseAndMargin) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  Artefact(rank, "step-00000010", 10);
  Connect("w2", 1);
  Advance(20000);
  Heartbeat("w2");
  Advance(15999);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_RUNNING);
  Advance(1);
  EXPECT_EQ(Job("j3").cause(), v1::CAUSE_WORKER_LOST);
  Advance(1000);
  Heartbeat("w2");
  EXPECT_EQ(State("j3"), v1::JOB_STATE_STARTING);
  EXPECT_EQ(Job("j3").placements(0).worker_id(), "w2");

  // The lost worker comes back: what it has is void.
  Connect("w1", 1, {{"j3", 1}});
  EXPECT_EQ(Sent("w1", Kind::kForget).back().forget().attempt().attempt(), 1);
  EXPECT_TRUE(Sent("w1", Kind::kRegistered).back().registered().cursors().empty());
}

TEST_F(SupervisorTest, CoordinatorRestart_RunningRankIsAdoptedWithItsCursor) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  Step(rank, 1, 14.8);
  ASSERT_TRUE(Log(rank, 0, "hello").ok());
  RestartCoordinator();
  EXPECT_EQ(State("j3"), v1::JOB_STATE_RUNNING);
  Connect("w1", 1, {{"j3", 1}});
  const auto registered = Sent("w1", Kind::kRegistered).back().registered();
  ASSERT_EQ(registered.cursors_size(), 1);
  EXPECT_EQ(registered.cursors(0).report_seq(), 2);
  EXPECT_EQ(registered.cursors(0).log_offset(), 5);
  Step(rank, 2, 14.5);
  EXPECT_EQ(Job("j3").progress().done(), 2);
  EXPECT_EQ(Job("j3").attempt(), 1);
}

TEST_F(SupervisorTest, CoordinatorRestart_WorkerThatDoesNotComeBackIsLost) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  RestartCoordinator();
  Advance(35999);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_RUNNING);
  Advance(1);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(Job("j3").cause(), v1::CAUSE_WORKER_LOST);
}

TEST_F(SupervisorTest, CoordinatorRestart_DecisionOnAnArtefactIsSentAgain) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  const std::string path = Artefact(rank, "step-00000010", 10);
  RestartCoordinator();  // the decision may never have left
  Connect("w1", 1, {{"j3", 1}});
  const Json command = Json::parse(Sent("w1", Kind::kCommand).back().command().json());
  EXPECT_EQ(command["path"], path);
  EXPECT_EQ(command["committed"], true);
  EXPECT_EQ(CheckpointsOf("j3").size(), 1u);
}

TEST_F(SupervisorTest, CoordinatorRestart_ArtefactWhoseCheckWasCutOffIsCommittedOnce) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  file_work_.Hold();
  Artefact(rank, "step-00000010", 10);
  // The check never ends: the work belongs to the process that died.
  file_work_ = InlineFileWork();
  RestartCoordinator();
  Connect("w1", 1, {{"j3", 1}});
  EXPECT_EQ(Sent("w1", Kind::kRegistered).back().registered().cursors(0).report_seq(), 1);
  ASSERT_TRUE(Resend(rank, 2).ok());
  EXPECT_EQ(CheckpointsOf("j3"), std::vector<std::string>{"train:1"});
}

TEST_F(SupervisorTest, WorkerRestart_WithItsRunFolders_KeepsTheAttempt) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  Disconnect("w1");
  Connect("w1", 1, {{"j3", 1}});
  EXPECT_EQ(State("j3"), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(Job("j3").attempt(), 1);
}

TEST_F(SupervisorTest, WorkerRestart_WithoutItsRunFolders_EndsTheAttempt) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  Connect("w1", 1);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(Job("j3").cause(), v1::CAUSE_WORKER_LOST);
}

TEST_F(SupervisorTest, WorkerReconnects_BeforeTheStartArrived_GetsItAgain) {
  StartTraining();
  Connect("w1", 1);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_STARTING);
  EXPECT_EQ(Sent("w1", Kind::kStart).back().start().attempt().job_id(), "j3");
}

TEST_F(SupervisorTest, SecondSession_EndsTheFirst) {
  Connect("w1", 1);
  const auto first = sessions_["w1"];
  Connect("w1", 1);
  ASSERT_TRUE(first->ended.has_value());
  EXPECT_EQ(first->ended->code(), absl::StatusCode::kAborted);
}

// A long queue is not gone through for every job that comes: passes have a pause between them.
TEST_F(SupervisorTest, LongQueue_IsGoneThroughNowAndThen) {
  std::vector<v1::JobSpec> jobs;
  for (int i = 0; i < 1000; ++i) jobs.push_back(PrepareJob(fmt::format("p{}", i)));
  ASSERT_TRUE(Submit(jobs, "many").ok());
  EXPECT_EQ(observer_.schedule_passes, 1);
  ASSERT_TRUE(Submit({PrepareJob("one")}, "one more").ok());
  ASSERT_TRUE(Submit({PrepareJob("two")}, "and another").ok());
  EXPECT_EQ(observer_.schedule_passes, 1);
  EXPECT_EQ(supervisor_->NextDeadlineMillis(), 4);
  Advance(4);
  EXPECT_EQ(observer_.schedule_passes, 2);
  EXPECT_EQ(Job("j1002").cause(), v1::CAUSE_NO_FREE_SLOTS);
}

TEST_F(SupervisorTest, WorkerOneVersionBack_IsAcceptedAndToldSo) {
  struct Case {
    int32_t oldest, newest, spoken;
  };
  // A worker of version 1 names no range; one of a later release reaches back to what we speak.
  for (const Case& c : {Case{0, 1, 1}, Case{1, 2, 2}, Case{2, 3, 2}}) {
    v1::Register hello;
    hello.set_worker_id("w1");
    hello.set_protocol_version(c.newest);
    hello.set_oldest_protocol_version(c.oldest);
    hello.add_slots();
    const auto session = std::make_shared<FakeSession>();
    queue_->Change(
        [&](Turn& turn) { EXPECT_TRUE(supervisor_->OnRegister(turn, hello, session).ok()); });
    ASSERT_FALSE(session->sent.empty());
    EXPECT_EQ(session->sent.front().registered().protocol_version(), c.spoken);
  }
}

TEST_F(SupervisorTest, WrongProtocol_IsRefusedWithBothVersions) {
  v1::Register hello;
  hello.set_worker_id("w1");
  hello.set_protocol_version(99);
  hello.add_slots();
  queue_->Change([&](Turn& turn) {
    const absl::Status status =
        supervisor_->OnRegister(turn, hello, std::make_shared<FakeSession>());
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_NE(Message(status).find("99"), std::string::npos);
  });
}

TEST_F(SupervisorTest, Logs_OverlappingChunks_AreStoredOnce) {
  StartTraining();
  RankOutbox rank{.worker = "w1", .job = "j3"};
  Started(rank);
  ASSERT_TRUE(Log(rank, 0, "hello ").ok());
  ASSERT_TRUE(Log(rank, 0, "hello world").ok());
  ASSERT_TRUE(Log(rank, 3, "lo").ok());
  EXPECT_EQ(Sent("w1", Kind::kLogAck).back().log_ack().offset(), 11);
  EXPECT_EQ(Log(rank, 12, "x").code(), absl::StatusCode::kAborted);
  std::string text;
  while (true) {
    const auto piece = store_->ReadLog({3, 1, 0}, static_cast<int64_t>(text.size()), 4);
    if (piece->bytes.empty()) break;
    text += piece->bytes;
  }
  EXPECT_EQ(text, "hello world");
}

TEST_F(SupervisorTest, WaitingJob_SaysWhy) {
  ASSERT_TRUE(Submit({PrepareJob("a")}, "wish").ok());
  EXPECT_EQ(Job("j1").cause(), v1::CAUSE_NO_FREE_SLOTS);
  EXPECT_EQ(Job("j1").reason(), "no worker is connected");
}

}  // namespace
}  // namespace moe::coordinator
