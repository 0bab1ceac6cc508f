// The program moe-worker between a coordinator and its ranks, through crashes of each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <string>

#include "common/file.h"
#include "common/process_info.h"
#include "common/status.h"
#include "common/subprocess.h"
#include "tests/integration/daemon/fake_coordinator.h"
#include "tests/unit/common/temporary_folder.h"
#include "worker/daemon/rank_process.h"

namespace moe {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;
using v1::RankReport;

constexpr int kDeadlineMs = 30'000;

class DaemonTest : public ::testing::Test {
 protected:
  DaemonTest() {
    // The daemon finds the scripted rank under the names of the real ones.
    std::filesystem::create_directory(folder_.File("bin"));
    for (const char* name : {"moe-rank", "moe-prepare"}) {
      std::filesystem::create_symlink(MOE_SCRIPTED_RANK, folder_.File("bin") + "/" + name);
    }
    state_dir_ = folder_.File("state");
  }

  ~DaemonTest() override {
    if (daemon_ != 0) KillDaemon();
    // Ranks outlive the daemon, and must not outlive the test.
    const auto runs = ListDirectory(state_dir_ + "/runs");
    for (const std::string& run : runs.ok() ? *runs : std::vector<std::string>()) {
      const auto identity =
          worker::RankFolder(state_dir_ + "/runs/" + run + "/rank-0").ReadProcess();
      if (!identity.ok() || !identity->has_value()) continue;
      const auto rank = worker::RankProcess::Adopt(**identity);
      if (rank.ok()) rank->Kill();
    }
    if (HasFailure()) std::fputs(DaemonLog().c_str(), stderr);
  }

  void StartCoordinator(const FakeCoordinator::Options& options = {}) {
    coordinator_ = std::make_unique<FakeCoordinator>(options);
  }

  pid_t SpawnDaemon(const std::string& log) {
    const auto daemon = StartDetached(
        {.argv = {MOE_WORKER_PROGRAM, "--coordinator", coordinator_->address(), "--worker-id", "w1",
                  "--state-dir", state_dir_, "--bin-dir", folder_.File("bin"), "--cpu-slots", "2",
                  "--no-speed-probe", "--threads-per-slot", "3", "--metrics-listen", ""},
         .environment = {"PATH=/usr/bin:/bin"},
         .output_path = folder_.File(log)});
    EXPECT_TRUE(daemon.ok()) << daemon.status();
    return daemon->pid;
  }

  // Returns when the coordinator has accepted it.
  void StartDaemon() {
    daemon_ = SpawnDaemon("daemon.log");
    ASSERT_TRUE(coordinator_->WaitForSession(++sessions_));
  }
  int EndDaemon(int signal) {
    ::kill(std::exchange(daemon_, 0), signal);
    int status = 0;
    ::wait(&status);
    return status;
  }
  void KillDaemon() { EndDaemon(SIGKILL); }

  // Of the running rank of the attempt, once it has reported.
  pid_t RankPid(int attempt) {
    coordinator_->WaitFor(attempt, "the first report",
                          [](const ReceivedRank& rank) { return !rank.reports.empty(); });
    return coordinator_->Received(attempt).reports.at(0).started().pid();
  }
  static worker::RankProcess Watch(pid_t pid) {
    auto process = worker::RankProcess::Adopt(*IdentifyProcess(pid));
    EXPECT_TRUE(process.ok()) << process.status();
    return *std::move(process);
  }
  static bool WaitForEnd(const worker::RankProcess& process) {
    pollfd fd = {process.pidfd(), POLLIN, 0};
    return ::poll(&fd, 1, kDeadlineMs) == 1;
  }
  static bool Runs(const worker::RankProcess& process) {
    pollfd fd = {process.pidfd(), POLLIN, 0};
    return ::poll(&fd, 1, 0) == 0;
  }

  v1::RankExited WaitForExit(int attempt) {
    const bool came =
        coordinator_->WaitFor(attempt, "the end of the rank",
                              [](const ReceivedRank& rank) { return rank.exited.has_value(); });
    return came ? *coordinator_->Received(attempt).exited : v1::RankExited();
  }
  void Put(int attempt, const std::string& key) {
    coordinator_->Command(attempt, {{"type", "rendezvous"}, {"key", key}, {"value", ""}});
  }
  void WaitUntilGone(const std::string& path) const {
    for (int waited_ms = 0; FileExists(path); ++waited_ms) {
      ASSERT_LT(waited_ms, kDeadlineMs) << path << " is still there";
      ::poll(nullptr, 0, 1);
    }
  }

  std::string RunFolder(int attempt) const {
    return state_dir_ + "/runs/j1." + std::to_string(attempt);
  }
  std::string DaemonLog() const { return ReadFile(folder_.File("daemon.log")).value_or(""); }

  TemporaryFolder folder_;
  std::string state_dir_;
  std::unique_ptr<FakeCoordinator> coordinator_;
  pid_t daemon_ = 0;
  int sessions_ = 0;
};

TEST_F(DaemonTest, Rank_ReportsThenLogThenEndArrive) {
  StartCoordinator();
  StartDaemon();
  coordinator_->Start(1, {{{"log", "hello"}}, {{"report", 500}}});
  const v1::RankExited exited = WaitForExit(1);
  EXPECT_EQ(exited.exit_code(), 0);
  EXPECT_EQ(exited.signal(), 0);
  const ReceivedRank rank = coordinator_->Received(1);
  ASSERT_THAT(rank.reports, SizeIs(502));
  EXPECT_EQ(rank.reports.back().finished().summary(), "OMP_NUM_THREADS=3");
  EXPECT_EQ(rank.log, "hello\n");
}

TEST_F(DaemonTest, DaemonKilled_RankRunsOnAndTheNextDaemonTakesItOver) {
  StartCoordinator();
  StartDaemon();
  coordinator_->Start(1, {{{"report", 50}}, {{"get", "go"}}, {{"report", 50}}});
  const worker::RankProcess rank = Watch(RankPid(1));
  coordinator_->WaitFor(1, "50 reports", [](auto& r) { return r.reports.size() == 51; });
  KillDaemon();
  EXPECT_TRUE(Runs(rank));

  StartDaemon();
  EXPECT_THAT(coordinator_->RegisteredAttempts(), ::testing::ElementsAre("j1.1"));
  EXPECT_TRUE(Runs(rank));
  Put(1, "go");
  const v1::RankExited exited = WaitForExit(1);
  EXPECT_EQ(exited.exit_code(), -1) << "nobody but its parent can know";
  EXPECT_THAT(coordinator_->Received(1).reports, SizeIs(102));
  EXPECT_EQ(coordinator_->Received(1).reports.back().event_case(), RankReport::kFinished);
}

TEST_F(DaemonTest, DaemonKilledWhileTheRankReports_EveryReportArrivesOnce) {
  StartCoordinator();
  StartDaemon();
  coordinator_->Start(1, {{{"report", 30'000}}});
  for (const size_t reached : {1u, 2'000u, 10'000u}) {
    coordinator_->WaitFor(1, "more reports",
                          [reached](auto& rank) { return rank.reports.size() >= reached; });
    KillDaemon();
    StartDaemon();
  }
  WaitForExit(1);
  EXPECT_THAT(coordinator_->Received(1).reports, SizeIs(30'002));
}

TEST_F(DaemonTest, CoordinatorLosesWhatItDidNotAcknowledge_ItIsSentAgain) {
  StartCoordinator();
  StartDaemon();
  coordinator_->Start(1, {{{"report", 10}}, {{"get", "go"}}, {{"report", 10}}, {{"get", "end"}}});
  coordinator_->WaitFor(1, "the first part", [](auto& rank) { return rank.reports.size() == 11; });
  coordinator_->SetAcknowledging(false);
  Put(1, "go");
  coordinator_->WaitFor(1, "the second part", [](auto& rank) { return rank.reports.size() == 21; });
  coordinator_->SetAcknowledging(true);
  coordinator_->Restart();
  EXPECT_EQ(coordinator_->Received(1).reports.size(), 11);
  ASSERT_TRUE(coordinator_->WaitForSession(++sessions_));
  Put(1, "end");
  WaitForExit(1);
  EXPECT_THAT(coordinator_->Received(1).reports, SizeIs(22));
}

TEST_F(DaemonTest, StartTwice_RunsOnce) {
  StartCoordinator();
  StartDaemon();
  const Json script = {{{"get", "go"}}};
  coordinator_->Start(1, script);
  coordinator_->Start(1, script);
  const pid_t pid = RankPid(1);
  KillDaemon();
  StartDaemon();
  coordinator_->Start(1, script);
  Put(1, "go");
  WaitForExit(1);
  const ReceivedRank rank = coordinator_->Received(1);
  ASSERT_THAT(rank.reports, SizeIs(2));
  EXPECT_EQ(rank.reports[0].started().pid(), pid);
}

TEST_F(DaemonTest, RankKilled_ItsEndNamesTheSignal) {
  StartCoordinator();
  StartDaemon();
  coordinator_->Start(1, {{{"get", "never"}}});
  ::kill(RankPid(1), SIGKILL);
  const v1::RankExited exited = WaitForExit(1);
  EXPECT_EQ(exited.exit_code(), -1);
  EXPECT_EQ(exited.signal(), SIGKILL);
}

TEST_F(DaemonTest, RankEndedUnderAnEarlierDaemon_ItsEndIsStillKnown) {
  StartCoordinator();
  StartDaemon();
  coordinator_->Start(1, {{{"exit", 3}}});
  EXPECT_EQ(WaitForExit(1).exit_code(), 3);
  KillDaemon();
  StartDaemon();
  EXPECT_EQ(WaitForExit(1).exit_code(), 3);
}

TEST_F(DaemonTest, StopWithinTheGrace_RankEndsByItself) {
  StartCoordinator();
  StartDaemon();
  coordinator_->Start(1, {{{"get", "never"}}});
  RankPid(1);
  coordinator_->Stop(1, "drain", kDeadlineMs);
  EXPECT_EQ(WaitForExit(1).exit_code(), 0);
  EXPECT_EQ(coordinator_->Received(1).reports.back().stopped().cause(), v1::CAUSE_DRAINED);
}

TEST_F(DaemonTest, StopAtOnce_BeforeTheRankListens_ReachesIt) {
  StartCoordinator();
  StartDaemon();
  coordinator_->Start(1, {{{"get", "never"}}});
  coordinator_->Stop(1, "cancel", kDeadlineMs);
  EXPECT_EQ(WaitForExit(1).exit_code(), 0);
  EXPECT_EQ(coordinator_->Received(1).reports.back().stopped().cause(), v1::CAUSE_CANCELLED);
}

TEST_F(DaemonTest, StopOfAHangingRank_ItIsKilledAfterTheGrace) {
  StartCoordinator();
  StartDaemon();
  coordinator_->Start(1, {{{"hang", true}}});
  RankPid(1);
  coordinator_->Stop(1, "cancel", 100);
  EXPECT_EQ(WaitForExit(1).signal(), SIGKILL);
}

TEST_F(DaemonTest, LeaseNotRenewed_RankStopsByItselfAndItsLastWordArrivesLater) {
  StartCoordinator({.lease_ttl_ms = 600, .heartbeat_interval_ms = 50});
  StartDaemon();
  coordinator_->Start(1, {{{"get", "never"}}});
  const worker::RankProcess rank = Watch(RankPid(1));
  coordinator_->SetSilent(true);
  EXPECT_TRUE(WaitForEnd(rank));
  coordinator_->SetSilent(false);
  WaitForExit(1);
  EXPECT_EQ(coordinator_->Received(1).reports.back().stopped().cause(), v1::CAUSE_LEASE_EXPIRED);
}

TEST_F(DaemonTest, AnswerToAnOldHeartbeatComesAgain_RenewsNothing) {
  StartCoordinator({.lease_ttl_ms = 600, .heartbeat_interval_ms = 50});
  StartDaemon();
  coordinator_->Start(1, {{{"get", "never"}}});
  const worker::RankProcess rank = Watch(RankPid(1));
  coordinator_->ReplayHeartbeatAcks();
  EXPECT_TRUE(WaitForEnd(rank));
  WaitForExit(1);
  EXPECT_EQ(coordinator_->Received(1).reports.back().stopped().cause(), v1::CAUSE_LEASE_EXPIRED);
}

TEST_F(DaemonTest, LeaseRenewed_RankOutlivesManyTerms) {
  StartCoordinator({.lease_ttl_ms = 400, .heartbeat_interval_ms = 20});
  StartDaemon();
  coordinator_->Start(1, {{{"get", "never"}}});
  const worker::RankProcess rank = Watch(RankPid(1));
  pollfd end = {rank.pidfd(), POLLIN, 0};
  EXPECT_EQ(::poll(&end, 1, 2'000), 0) << "it ended: " << DaemonLog();
}

TEST_F(DaemonTest, DaemonGone_RankStopsWhenItsLeaseRunsOut) {
  StartCoordinator({.lease_ttl_ms = 600, .heartbeat_interval_ms = 50});
  StartDaemon();
  coordinator_->Start(1, {{{"get", "never"}}});
  const worker::RankProcess rank = Watch(RankPid(1));
  KillDaemon();
  EXPECT_TRUE(WaitForEnd(rank));
}

TEST_F(DaemonTest, Forget_EndsWhatRunsAndRemovesTheFolder) {
  StartCoordinator();
  StartDaemon();
  coordinator_->Start(1, {{{"hang", true}}});
  const worker::RankProcess rank = Watch(RankPid(1));
  coordinator_->Forget(1);
  EXPECT_TRUE(WaitForEnd(rank));
  WaitUntilGone(RunFolder(1));
  KillDaemon();
  StartDaemon();
  EXPECT_THAT(coordinator_->RegisteredAttempts(), ::testing::IsEmpty());
}

TEST_F(DaemonTest, CommitDecision_ReachesTheRankAlsoAfterARestart) {
  StartCoordinator();
  StartDaemon();
  coordinator_->Start(1, {{{"commit", "/a"}}, {{"commit", "/b"}}});
  coordinator_->WaitForReport(1, RankReport::kArtefact);
  coordinator_->Command(1, {{"type", "artefact"}, {"path", "/a"}, {"committed", true}});
  coordinator_->WaitFor(1, "the second", [](auto& rank) { return rank.reports.size() == 3; });
  KillDaemon();
  StartDaemon();
  // The coordinator repeats what it has decided.
  coordinator_->Command(1, {{"type", "artefact"}, {"path", "/a"}, {"committed", true}});
  coordinator_->Command(
      1, {{"type", "artefact"}, {"path", "/b"}, {"committed", false}, {"error", "no space"}});
  WaitForExit(1);
  EXPECT_THAT(coordinator_->Received(1).reports.back().failed().error(), HasSubstr("no space"));
}

TEST_F(DaemonTest, SlotThatDoesNotExist_FailsWithAReason) {
  StartCoordinator();
  StartDaemon();
  coordinator_->Start(1, Json::array(), /*slot=*/7);
  WaitForExit(1);
  ASSERT_THAT(coordinator_->Received(1).reports, SizeIs(1));
  EXPECT_THAT(coordinator_->Received(1).reports[0].failed().error(), HasSubstr("slot 7"));
}

TEST_F(DaemonTest, Terminated_ExitsCleanlyAndLeavesTheRank) {
  StartCoordinator();
  StartDaemon();
  coordinator_->Start(1, {{{"get", "go"}}});
  const worker::RankProcess rank = Watch(RankPid(1));
  EXPECT_EQ(EndDaemon(SIGTERM), 0);
  EXPECT_TRUE(Runs(rank));
  EXPECT_THAT(DaemonLog(), HasSubstr("running=1 ranks are left running"));
}

TEST_F(DaemonTest, ProgramThatCannotRun_FailsWithAReason) {
  StartCoordinator();
  StartDaemon();
  // Good when the daemon started, and replaced since.
  std::filesystem::remove(folder_.File("bin") + "/moe-rank");
  coordinator_->Start(1, Json::array());
  WaitForExit(1);
  ASSERT_THAT(coordinator_->Received(1).reports, SizeIs(1));
  EXPECT_THAT(coordinator_->Received(1).reports[0].failed().error(),
              AllOf(HasSubstr("could not start the rank"), HasSubstr("moe-rank")));
}

TEST_F(DaemonTest, FolderTornByALossOfPower_IsGivenUpAndTheOthersAreTakenOver) {
  StartCoordinator();
  StartDaemon();
  coordinator_->Start(1, {{{"get", "never"}}});
  coordinator_->Start(2, {{{"get", "go"}}}, /*slot=*/1);
  const worker::RankProcess torn = Watch(RankPid(1));
  RankPid(2);
  KillDaemon();
  ASSERT_TRUE(ReplaceFile(RunFolder(1) + "/run.json", "").ok());
  StartDaemon();
  EXPECT_THAT(coordinator_->RegisteredAttempts(), ::testing::ElementsAre("j1.2"));
  EXPECT_FALSE(FileExists(RunFolder(1)));
  EXPECT_TRUE(WaitForEnd(torn)) << "it would run on unseen";
  Put(2, "go");
  WaitForExit(2);
  EXPECT_EQ(coordinator_->Received(2).reports.back().event_case(), RankReport::kFinished);
}

TEST_F(DaemonTest, StateFolderOfALongPath_Works) {
  state_dir_ = folder_.path() + "/" + std::string(100, 'd') + "/" + std::string(100, 'e');
  StartCoordinator();
  StartDaemon();
  coordinator_->Start(1, {{{"get", "go"}}});
  Put(1, "go");
  EXPECT_EQ(WaitForExit(1).exit_code(), 0);
}

TEST_F(DaemonTest, SecondDaemonOnTheStateFolder_IsRefusedNamingTheFirst) {
  StartCoordinator();
  StartDaemon();
  const pid_t second = SpawnDaemon("second.log");
  int status = 0;
  ASSERT_EQ(::waitpid(second, &status, 0), second);
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_THAT(*ReadFile(folder_.File("second.log")),
              HasSubstr(fmt::format("in use by process {}", daemon_)));
}

}  // namespace
}  // namespace moe
