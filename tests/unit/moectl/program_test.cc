// Command lines against a fake coordinator: output, messages, exit codes.
#include "moectl/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "tests/unit/moectl/fake_coordinator.h"

namespace moe::moectl {
namespace {

using moe::v1::JOB_STATE_CANCELLED;
using moe::v1::JOB_STATE_FAILED;
using moe::v1::JOB_STATE_RUNNING;
using moe::v1::JOB_STATE_SUCCEEDED;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

constexpr char kJobFile[] = "pipeline: tiny\njobs: [{name: t, export: {model: {path: /m}}}]\n";

class ProgramTest : public testing::Test {
 protected:
  ProgramTest() {
    setenv("TZ", "UTC", 1);
    config_home_ = testing::TempDir() + "/moectl_" +
                   testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(config_home_);
    environment_ = {{"XDG_CONFIG_HOME", config_home_},
                    {"HOME", "/home/u"},
                    {"MOECTL_ENDPOINT", coordinator_.endpoint()}};
  }
  ~ProgramTest() override { std::filesystem::remove_all(config_home_); }

  ExitCode Run(const std::vector<std::string>& arguments, const std::string& input = "") {
    in_.str(input);
    in_.clear();
    out_.str("");
    err_.str("");
    World world{.in = in_,
                .out = out_,
                .err = err_,
                .terminal = [this] { return terminal_; },
                .environment = [this](const std::string& name) { return environment_[name]; },
                .clock = clock_,
                .interrupt = interrupt_};
    return RunMoectl(arguments, world);
  }

  std::string out() const { return out_.str(); }
  std::string err() const { return err_.str(); }
  FakeJobService& service() { return coordinator_.jobs; }

  FakeCoordinator coordinator_;
  std::string config_home_;
  std::map<std::string, std::string> environment_;
  term::Terminal terminal_;
  RealClock clock_;
  Interrupt interrupt_;

 private:
  std::istringstream in_;
  std::ostringstream out_;
  std::ostringstream err_;
};

// ---- command lines
// -------------------------------------------------------------------------------

TEST_F(ProgramTest, JobPlan_ShowsTimeMemoryAndWhatFits) {
  moe::v1::TrainEstimate& estimate = *service().estimates.add_estimates();
  estimate.set_job("train");
  estimate.set_machine("h100, assumed");
  estimate.set_ranks(8);
  estimate.set_total_parameters(6'743'000'000);
  estimate.set_active_parameters(3'496'000'000);
  estimate.set_step_seconds(6.5);
  estimate.set_memory_bytes(int64_t{100} << 30);
  estimate.set_memory_limit_bytes(int64_t{80} << 30);
  estimate.add_choices()->set_micro_batch_samples(2);
  EXPECT_EQ(Run({"job", "plan", "-f", "-", "--machine", "h100"}, kJobFile), ExitCode::kDone);
  EXPECT_EQ(service().estimated.machine(), "h100");
  EXPECT_EQ(service().estimated.jobs_size(), 1);
  EXPECT_THAT(out(), HasSubstr("train: 8 ranks on h100, assumed"));
  EXPECT_THAT(out(), HasSubstr("6.7G, 3.5G active"));
  EXPECT_THAT(out(), HasSubstr("100.0 GiB a rank of 80.0 GiB: does not fit"));
}

TEST_F(ProgramTest, JobPlan_WithoutATrainJob_SaysSo) {
  EXPECT_EQ(Run({"job", "plan", "-f", "-"}, kJobFile), ExitCode::kDone);
  EXPECT_THAT(err(), HasSubstr("no train job"));
}

TEST_F(ProgramTest, WrongCommandLines_AreUsageErrorsWithTheNearestWord) {
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"jbo"}, "moectl: unknown command 'jbo' of 'moectl'; did you mean 'job'?\n"},
      {{"job", "lst"}, "moectl: unknown command 'lst' of 'moectl job'; did you mean 'list'?\n"},
      {{"job", "list", "--stat", "x"},
       "moectl: unknown flag '--stat' of 'moectl job list'; did you mean '--state'?\n"},
      {{"--endpiont", "x", "job", "list"},
       "moectl: unknown flag '--endpiont' of 'moectl'; did you mean '--endpoint'?\n"},
      {{"worker"}, "moectl: 'moectl worker' needs a command: list, drain, undrain\n"},
      {{"job", "describe"}, "moectl: JOB is required\n"},
      {{"job", "list", "-o", "xml"}, "moectl: --output: xml not in {table,wide,json,yaml,name}\n"},
      {{"job", "list", "--state", "runningg"},
       "moectl: unknown state 'runningg'; did you mean RUNNING?\n"},
      {{"job", "list", "--timeout", "soon"}, "moectl: --timeout: 'soon' is not a duration"},
      {{"job", "list", "--endpoint", "10.0.0.1:7070"},
       "moectl: endpoint '10.0.0.1:7070' is not on this machine"},
  };
  for (const auto& [arguments, message] : cases) {
    EXPECT_EQ(Run(arguments), ExitCode::kUsage) << message;
    EXPECT_THAT(err(), StartsWith(message));
    EXPECT_THAT(out(), IsEmpty());
  }
}

TEST_F(ProgramTest, Help_GoesToStandardOutput) {
  EXPECT_EQ(Run({"job", "submit", "--help"}), ExitCode::kDone);
  EXPECT_THAT(out(), HasSubstr("Usage: moectl job submit [OPTIONS]"));
  EXPECT_THAT(err(), IsEmpty());
}

// ---- submit
// --------------------------------------------------------------------------------------

TEST_F(ProgramTest, Submit_PrintsWhatWasMade) {
  EXPECT_EQ(Run({"job", "submit", "-f", "-"}, kJobFile), ExitCode::kDone);
  EXPECT_EQ(out(), "pipeline/p1 submitted (tiny)\njob/j1 submitted (t)\n");
  ASSERT_EQ(service().submitted.size(), 1u);
  EXPECT_EQ(service().submitted[0].request_id().size(), 36u);
}

TEST_F(ProgramTest, Submit_LostAnswer_RepeatsTheSameRequestId) {
  service().failures = {{grpc::StatusCode::UNAVAILABLE, "gone"},
                        {grpc::StatusCode::UNAVAILABLE, "gone"}};
  EXPECT_EQ(Run({"job", "submit", "-f", "-"}, kJobFile), ExitCode::kDone);
  ASSERT_EQ(service().submitted.size(), 3u);
  EXPECT_EQ(service().submitted[0].SerializeAsString(), service().submitted[2].SerializeAsString());
}

TEST_F(ProgramTest, Submit_NoCoordinator_GivesUpAndNamesTheRequestId) {
  EXPECT_EQ(Run({"job", "submit", "-f", "-", "--endpoint", "127.0.0.1:1", "--timeout", "300ms",
                 "--request-id", "wish-7"},
                kJobFile),
            ExitCode::kUnreachable);
  EXPECT_THAT(err(), HasSubstr("--request-id wish-7"));
}

TEST_F(ProgramTest, Submit_BadFile_IsRefusedWithoutACall) {
  EXPECT_EQ(Run({"job", "submit", "-f", "-"}, "pipeline: p\njobs: [{name: t, exportt: {}}]\n"),
            ExitCode::kUsage);
  EXPECT_EQ(err(),
            "moectl: <stdin> is refused, nothing was submitted:\n"
            "<stdin>:2:18: jobs[0]: unknown key 'exportt'; did you mean 'export'?\n");
  EXPECT_THAT(service().submitted, IsEmpty());
}

TEST_F(ProgramTest, Submit_MissingFile_IsAUsageError) {
  EXPECT_EQ(Run({"job", "submit", "-f", "/nowhere/job.yaml"}), ExitCode::kUsage);
  EXPECT_THAT(err(), HasSubstr("/nowhere/job.yaml"));
}

TEST_F(ProgramTest, Submit_DryRun_AsksTheCoordinatorOnly) {
  EXPECT_EQ(Run({"job", "submit", "-f", "-", "--dry-run"}, kJobFile), ExitCode::kDone);
  EXPECT_EQ(out(), "pipeline 'tiny' is valid: 1 job\n");
  EXPECT_TRUE(service().submitted.at(0).validate_only());
}

TEST_F(ProgramTest, Submit_RefusedByTheCoordinator_IsAUsageErrorAndNotRepeated) {
  service().failures = {{grpc::StatusCode::INVALID_ARGUMENT, "experts=7 does not divide 1536"}};
  EXPECT_EQ(Run({"job", "submit", "-f", "-"}, kJobFile), ExitCode::kUsage);
  EXPECT_EQ(err(), "moectl: experts=7 does not divide 1536\n");
  EXPECT_EQ(service().submitted.size(), 1u);
}

// ---- show
// ----------------------------------------------------------------------------------------

TEST_F(ProgramTest, ServerErrors_BecomeExitCodes) {
  const std::pair<grpc::StatusCode, ExitCode> cases[] = {
      {grpc::StatusCode::NOT_FOUND, ExitCode::kNotFound},
      {grpc::StatusCode::UNAUTHENTICATED, ExitCode::kAuthentication},
      {grpc::StatusCode::PERMISSION_DENIED, ExitCode::kAuthentication},
      {grpc::StatusCode::UNAVAILABLE, ExitCode::kUnreachable},
      {grpc::StatusCode::FAILED_PRECONDITION, ExitCode::kFailed},
      {grpc::StatusCode::INTERNAL, ExitCode::kFailed}};
  for (const auto& [code, exit_code] : cases) {
    service().failures = {{code, "reason"}};
    EXPECT_EQ(Run({"job", "describe", "x"}), exit_code);
    EXPECT_THAT(err(), HasSubstr("reason"));
  }
}

TEST_F(ProgramTest, List_ReadsAllPages) {
  for (int i = 5; i > 0; --i) {
    service().jobs.push_back(MakeJob("j" + std::to_string(i), "n", JOB_STATE_RUNNING));
  }
  EXPECT_EQ(Run({"job", "list", "-o", "name"}), ExitCode::kDone);
  EXPECT_EQ(out(), "job/j5\njob/j4\njob/j3\njob/j2\njob/j1\n");
}

TEST_F(ProgramTest, List_Nothing_SaysSoOutsideOfTheData) {
  EXPECT_EQ(Run({"job", "list"}), ExitCode::kDone);
  EXPECT_EQ(out(), "");
  EXPECT_EQ(err(), "no jobs\n");
}

TEST_F(ProgramTest, Json_HasTheProtosNamesAndTheZeroes) {
  service().jobs = {MakeJob("j1", "t", JOB_STATE_RUNNING)};
  EXPECT_EQ(Run({"job", "describe", "job/j1", "-o", "json"}), ExitCode::kDone);
  const auto job = nlohmann::json::parse(out())["job"];
  EXPECT_EQ(job["job_id"], "j1");
  EXPECT_EQ(job["attempt"], 0);
  EXPECT_EQ(job["state"], "JOB_STATE_RUNNING");
}

TEST_F(ProgramTest, Steps_AreReadToTheLastPage) {
  service().jobs = {MakeJob("j1", "t", JOB_STATE_RUNNING)};
  for (int i = 1; i <= 1001; ++i) {
    moe::v1::StepReport step;
    step.set_step(i);
    step.set_loss(0.1 + 0.2);
    service().steps.push_back(step);
  }
  EXPECT_EQ(Run({"job", "steps", "t", "-o", "csv"}), ExitCode::kDone);
  EXPECT_THAT(out(), HasSubstr("\n1001,0.30000000000000004,"));
}

// ---- cancel
// --------------------------------------------------------------------------------------

TEST_F(ProgramTest, CancelPipeline_LastJobFirstAndLeavesEndedOnesAlone) {
  service().jobs = {MakeJob("j10", "c", JOB_STATE_RUNNING), MakeJob("j9", "b", JOB_STATE_RUNNING),
                    MakeJob("j8", "a", JOB_STATE_SUCCEEDED)};
  EXPECT_EQ(Run({"job", "cancel", "p1"}), ExitCode::kDone);
  EXPECT_THAT(service().cancelled, ElementsAre("j10", "j9"));
  EXPECT_EQ(out(), "job/j10 cancelled\njob/j9 cancelled\n");
}

TEST_F(ProgramTest, UnknownPipeline_IsNotFound) {
  EXPECT_EQ(Run({"job", "cancel", "p77"}), ExitCode::kNotFound);
}

// ---- continue
// ------------------------------------------------------------------------------------

// A train job that made train:4 at step 120, of corpus:1.
class ContinueTest : public ProgramTest {
 protected:
  ContinueTest() {
    moe::v1::Job job = MakeJob("j3", "train", JOB_STATE_SUCCEEDED);
    moe::v1::JobSpec& spec = *job.mutable_spec();
    spec.add_needs("construct");
    spec.mutable_resources()->set_slots(1);
    spec.mutable_train()->mutable_model()->set_artefact("construct");
    spec.mutable_train()->mutable_dataset()->set_artefact("corpus");
    spec.mutable_train()->set_steps(200);
    job.add_outputs("train:3");
    job.add_outputs("train:4");
    service().jobs = {job};
    for (const int version : {3, 4}) {
      moe::v1::Artefact checkpoint;
      checkpoint.set_name("train");
      checkpoint.set_version(version);
      checkpoint.set_step(version * 30);
      checkpoint.add_inputs("construct:1");
      checkpoint.add_inputs("corpus:1");
      coordinator_.artefacts.artefacts.push_back(checkpoint);
    }
  }
  moe::v1::Job& job() { return service().jobs[0]; }
};

TEST_F(ContinueTest, EndedJob_IsSubmittedAgainFromItsNewestCheckpoint) {
  EXPECT_EQ(Run({"job", "continue", "job/j3", "--slots", "2"}), ExitCode::kDone);
  EXPECT_EQ(out(), "job/j1 submitted (train, from train:4 at step 120)\n");
  ASSERT_EQ(service().submitted.size(), 1u);
  const moe::v1::JobSpec& spec = service().submitted[0].jobs(0);
  EXPECT_THAT(spec.needs(), IsEmpty());
  EXPECT_EQ(spec.resources().slots(), 2);
  EXPECT_EQ(spec.train().start(), "continue");
  EXPECT_EQ(spec.train().model().artefact(), "train:4");
  EXPECT_EQ(spec.train().dataset().artefact(), "corpus:1");
  EXPECT_EQ(spec.train().steps(), 200);
  EXPECT_THAT(service().cancelled, IsEmpty());
}

TEST_F(ContinueTest, OtherCheckpointAndSteps_AreThoseGiven) {
  EXPECT_EQ(Run({"job", "continue", "train", "--from", "train:3", "--steps", "300"}),
            ExitCode::kDone);
  const moe::v1::JobSpec& spec = service().submitted.at(0).jobs(0);
  EXPECT_EQ(spec.train().model().artefact(), "train:3");
  EXPECT_EQ(spec.train().steps(), 300);
  EXPECT_EQ(spec.resources().slots(), 1);
}

TEST_F(ContinueTest, HeldJob_IsCancelledOnceTheNewOneIsThere) {
  job().set_state(moe::v1::JOB_STATE_PENDING);
  job().set_held(true);
  EXPECT_EQ(Run({"job", "continue", "train"}), ExitCode::kDone);
  EXPECT_EQ(service().submitted.size(), 1u);
  EXPECT_THAT(service().cancelled, ElementsAre("j3"));
}

TEST_F(ContinueTest, HeldJob_IsKeptWhereTheNewOneIsRefused) {
  job().set_state(moe::v1::JOB_STATE_PENDING);
  job().set_held(true);
  // GetJob is answered; SubmitPipeline is not.
  service().failures = {grpc::Status::OK,
                        {grpc::StatusCode::INVALID_ARGUMENT, "train: global_batch_samples=8"}};
  EXPECT_NE(Run({"job", "continue", "train", "--slots", "3"}), ExitCode::kDone);
  EXPECT_THAT(err(), HasSubstr("global_batch_samples=8"));
  EXPECT_THAT(service().cancelled, IsEmpty());
}

TEST_F(ContinueTest, JobsThatCannotGoOn_AreRefusedWithWhatToDo) {
  job().set_state(JOB_STATE_RUNNING);
  EXPECT_NE(Run({"job", "continue", "train"}), ExitCode::kDone);
  EXPECT_THAT(err(), HasSubstr("moectl job hold j3"));
  job().set_state(moe::v1::JOB_STATE_STOPPING);
  EXPECT_NE(Run({"job", "continue", "train"}), ExitCode::kDone);
  EXPECT_THAT(err(), HasSubstr("still stopping"));
  job().set_state(JOB_STATE_FAILED);
  job().clear_outputs();
  EXPECT_NE(Run({"job", "continue", "train"}), ExitCode::kDone);
  EXPECT_THAT(err(), HasSubstr("--from"));
  job().mutable_spec()->mutable_prepare();
  EXPECT_NE(Run({"job", "continue", "train"}), ExitCode::kDone);
  EXPECT_THAT(err(), HasSubstr("only train and finetune jobs"));
  EXPECT_THAT(service().submitted, IsEmpty());
}

// ---- watch, wait
// ---------------------------------------------------------------------------------

TEST_F(ProgramTest, Watch_InAPipe_PrintsALinePerChangeAndSucceeds) {
  service().jobs = {MakeJob("j1", "t", JOB_STATE_RUNNING)};
  auto running = MakeJob("j1", "t", JOB_STATE_RUNNING, 2);
  running.mutable_progress()->set_done(3);
  running.mutable_progress()->set_total(9);
  running.mutable_progress()->set_unit("layers");
  service().watches = {{.changes = {MakeChange(running), MakeChange(running),
                                    MakeChange(MakeJob("j1", "t", JOB_STATE_SUCCEEDED, 3), "ok")}}};
  EXPECT_EQ(Run({"job", "watch", "t"}), ExitCode::kDone);
  std::istringstream lines(out());
  std::string first, second, rest;
  std::getline(lines, first);
  std::getline(lines, second);
  EXPECT_THAT(first, HasSubstr(" j1 t RUNNING 3/9 layers"));
  EXPECT_THAT(second, HasSubstr(" j1 t SUCCEEDED: ok"));
  EXPECT_FALSE(std::getline(lines, rest)) << "the repeated change is shown once";
  EXPECT_TRUE(service().watched.at(0).until_ended());
}

TEST_F(ProgramTest, Watch_ManyChangesInOneMessage_AreShownAsIfEachHadItsOwn) {
  service().jobs = {MakeJob("j1", "t", JOB_STATE_RUNNING)};
  auto together = MakeChange(MakeJob("j1", "t", moe::v1::JOB_STATE_STARTING, 2), "placed");
  *together.add_more() = MakeChange(MakeJob("j1", "t", JOB_STATE_RUNNING, 3), "up");
  *together.add_more() = MakeChange(MakeJob("j1", "t", JOB_STATE_SUCCEEDED, 4), "ok");
  service().watches = {{.changes = {together}}};
  EXPECT_EQ(Run({"job", "watch", "t"}), ExitCode::kDone);
  EXPECT_THAT(out(), HasSubstr(" j1 t STARTING: placed\n"));
  EXPECT_THAT(out(), HasSubstr(" j1 t RUNNING: up\n"));
  EXPECT_THAT(out(), HasSubstr(" j1 t SUCCEEDED: ok\n"));
  EXPECT_TRUE(service().watched.at(0).batch());
}

TEST_F(ProgramTest, Watch_JobFails_IsExitCode5WithTheReason) {
  service().jobs = {MakeJob("j1", "t", JOB_STATE_RUNNING)};
  auto failed = MakeJob("j1", "t", JOB_STATE_FAILED, 2);
  failed.set_reason("the loss is not finite at step 7");
  service().watches = {{.changes = {MakeChange(failed)}}};
  EXPECT_EQ(Run({"job", "watch", "t"}), ExitCode::kJobUnsuccessful);
  EXPECT_THAT(err(), HasSubstr("job/j1 failed (t): the loss is not finite at step 7\n"));
}

TEST_F(ProgramTest, Watch_CoordinatorRestarts_GoesOnAfterTheLastRevision) {
  service().jobs = {MakeJob("j1", "t", JOB_STATE_RUNNING)};
  service().watches = {
      {.changes = {MakeChange(MakeJob("j1", "t", JOB_STATE_RUNNING, 41), "up")},
       .end = {grpc::StatusCode::UNAVAILABLE, "going down"}},
      // What was seen before comes again, as after a connection that went between two changes.
      {.changes = {MakeChange(MakeJob("j1", "t", JOB_STATE_RUNNING, 41), "up"),
                   MakeChange(MakeJob("j1", "t", JOB_STATE_SUCCEEDED, 43), "done")}}};
  EXPECT_EQ(Run({"job", "watch", "t"}), ExitCode::kDone);
  ASSERT_EQ(service().watched.size(), 2u);
  EXPECT_EQ(service().watched[0].from_revision(), 0);
  EXPECT_EQ(service().watched[1].from_revision(), 40);
  EXPECT_EQ(err(), "lost the coordinator at " + coordinator_.endpoint() +
                       ": trying to reconnect\nconnected again\n");
  const std::string lines = out();
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 2) << lines;
}

TEST_F(ProgramTest, Watch_StreamEndsEarly_IsOpenedAgain) {
  service().jobs = {MakeJob("j1", "t", JOB_STATE_RUNNING)};
  service().watches = {{}, {.changes = {MakeChange(MakeJob("j1", "t", JOB_STATE_SUCCEEDED, 2))}}};
  EXPECT_EQ(Run({"job", "watch", "t"}), ExitCode::kDone);
}

TEST_F(ProgramTest, Watch_CoordinatorStaysAway_GivesUp) {
  service().jobs = {MakeJob("j1", "t", JOB_STATE_RUNNING)};
  for (int i = 0; i < 50; ++i) {
    service().watches.push_back({.changes = {}, .end = {grpc::StatusCode::UNAVAILABLE, "x"}});
  }
  EXPECT_EQ(Run({"job", "watch", "t", "--timeout", "200ms"}), ExitCode::kUnreachable);
  EXPECT_THAT(err(), HasSubstr("the jobs do not need it to go on"));
}

TEST_F(ProgramTest, Watch_Interrupted_SaysThatTheJobGoesOn) {
  service().jobs = {MakeJob("j1", "t", JOB_STATE_RUNNING)};
  service().watches = {
      {.changes = {MakeChange(MakeJob("j1", "t", JOB_STATE_RUNNING, 2))}, .hang = true}};
  // Before or during the watch: both end it.
  std::thread user([this] { interrupt_.Request(); });
  EXPECT_EQ(Run({"job", "watch", "t"}), ExitCode::kInterrupted);
  user.join();
  EXPECT_THAT(err(), HasSubstr("interrupted; the job goes on. Watch again: moectl job watch j1"));
  EXPECT_THAT(service().cancelled, IsEmpty());
}

TEST_F(ProgramTest, Watch_OnATerminal_RedrawsATableInPlace) {
  terminal_ = {.is_terminal = true, .columns = 100, .rows = 20, .color = false};
  service().jobs = {MakeJob("j1", "t", JOB_STATE_RUNNING)};
  auto running = MakeJob("j1", "t", JOB_STATE_RUNNING, 2);
  running.mutable_progress()->set_done(30);
  running.mutable_progress()->set_total(60);
  auto* step = running.mutable_progress()->mutable_last_step();
  step->set_step(30);
  step->set_loss(7.25);
  step->set_tokens_per_second(1234);
  step->set_step_seconds(2);
  service().watches = {
      {.changes = {MakeChange(running)}, .end = {grpc::StatusCode::UNAVAILABLE, "restart"}},
      {.changes = {MakeChange(MakeJob("j1", "t", JOB_STATE_SUCCEEDED, 3))}}};
  EXPECT_EQ(Run({"job", "watch", "t"}), ExitCode::kDone);
  EXPECT_THAT(out(), HasSubstr("[========>       ] 30/60  7.2500      1.2k"));
  EXPECT_THAT(out(), HasSubstr("1m00s"));  // 30 steps of 2 s
  EXPECT_THAT(out(), HasSubstr("\x1b[2A\r\x1b[J"));
  // Both streams are the terminal, and only the table's owner may write to it.
  EXPECT_THAT(out(), HasSubstr("connected again\n"));
  EXPECT_THAT(err(), IsEmpty());
}

TEST_F(ProgramTest, Watch_WithoutNames_MeansTheJobsThatHaveNotEnded) {
  service().jobs = {MakeJob("j2", "b", JOB_STATE_RUNNING), MakeJob("j1", "a", JOB_STATE_FAILED)};
  service().watches = {{.changes = {MakeChange(MakeJob("j2", "b", JOB_STATE_SUCCEEDED, 2))}}};
  EXPECT_EQ(Run({"job", "watch"}), ExitCode::kDone);
  EXPECT_THAT(service().watched.at(0).job_ids(), ElementsAre("j2"));
}

TEST_F(ProgramTest, Wait_PrintsTheOutcomeOnly) {
  service().jobs = {MakeJob("j1", "t", JOB_STATE_RUNNING)};
  service().watches = {{.changes = {MakeChange(MakeJob("j1", "t", JOB_STATE_RUNNING, 2), "up"),
                                    MakeChange(MakeJob("j1", "t", JOB_STATE_CANCELLED, 3))}}};
  EXPECT_EQ(Run({"job", "wait", "t"}), ExitCode::kJobUnsuccessful);
  EXPECT_EQ(out(), "job/j1 cancelled\n");
}

// ---- logs
// ----------------------------------------------------------------------------------------

moe::v1::ReadLogsResponse Piece(int attempt, int64_t offset, const std::string& data) {
  moe::v1::ReadLogsResponse piece;
  piece.set_attempt(attempt);
  piece.set_offset(offset);
  piece.set_data(data);
  return piece;
}

TEST_F(ProgramTest, Logs_CoordinatorRestarts_GoesOnAtTheNextByte) {
  service().jobs = {MakeJob("j1", "t", JOB_STATE_RUNNING)};
  service().logs = {{.pieces = {Piece(1, 0, "one\n"), Piece(2, 0, "tw")},
                     .end = {grpc::StatusCode::UNAVAILABLE, "restart"}},
                    {.pieces = {Piece(2, 2, "o\n")}}};
  EXPECT_EQ(Run({"job", "logs", "t", "-f", "--rank", "1"}), ExitCode::kDone);
  EXPECT_EQ(out(), "one\ntwo\n");
  EXPECT_THAT(err(), HasSubstr("--- attempt 2 ---\n"));
  ASSERT_EQ(service().read_logs.size(), 2u);
  EXPECT_EQ(service().read_logs[0].rank(), 1);
  EXPECT_EQ(service().read_logs[1].attempt(), 2);
  EXPECT_EQ(service().read_logs[1].offset(), 2);
}

TEST_F(ProgramTest, Logs_OfAJobThatWasNeverStarted_SayWhyThereAreNone) {
  service().jobs = {MakeJob("j1", "t", moe::v1::JOB_STATE_QUEUED)};
  EXPECT_EQ(Run({"job", "logs", "t"}), ExitCode::kDone);
  EXPECT_THAT(err(), HasSubstr("has not been started"));
}

// ---- configuration
// -------------------------------------------------------------------------------

TEST_F(ProgramTest, Config_PrecedenceIsFlagEnvironmentFile) {
  environment_.erase("MOECTL_ENDPOINT");
  auto endpoint = [this](std::vector<std::string> flags) {
    flags.insert(flags.end(), {"config", "view"});
    EXPECT_EQ(Run(flags), ExitCode::kDone) << err();
    const std::string line = out().substr(0, out().find('\n'));
    return line.substr(line.rfind(' ') + 1);
  };
  EXPECT_EQ(endpoint({}), "127.0.0.1:7070");
  EXPECT_EQ(Run({"config", "set-context", "a", "--endpoint", "127.0.0.1:1111"}), ExitCode::kDone);
  EXPECT_EQ(Run({"config", "set-context", "b", "--endpoint", "127.0.0.1:2222"}), ExitCode::kDone);
  EXPECT_EQ(endpoint({}), "127.0.0.1:1111") << "the first context is in use";
  EXPECT_EQ(Run({"config", "use-context", "b"}), ExitCode::kDone);
  EXPECT_EQ(endpoint({}), "127.0.0.1:2222");
  environment_["MOECTL_CONTEXT"] = "a";
  EXPECT_EQ(endpoint({}), "127.0.0.1:1111");
  environment_["MOECTL_ENDPOINT"] = "127.0.0.1:3333";
  EXPECT_EQ(endpoint({}), "127.0.0.1:3333");
  EXPECT_EQ(endpoint({"--context", "b"}), "127.0.0.1:2222");
  EXPECT_EQ(endpoint({"--context", "b", "--endpoint", "127.0.0.1:4444"}), "127.0.0.1:4444");
}

TEST_F(ProgramTest, Config_UnknownContext_NamesTheKnown) {
  EXPECT_EQ(Run({"config", "set-context", "a", "--endpoint", "127.0.0.1:1111"}), ExitCode::kDone);
  EXPECT_EQ(Run({"job", "list", "--context", "c"}), ExitCode::kUsage);
  EXPECT_THAT(err(), HasSubstr("no context 'c'; the contexts are: a"));
}

}  // namespace
}  // namespace moe::moectl
