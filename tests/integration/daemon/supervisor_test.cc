// The worker's supervisor alone, without a session, so that its times can be what a test needs.
#include "worker/daemon/supervisor.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <csignal>
#include <filesystem>
#include <memory>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/json.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::worker {
namespace {

constexpr absl::Duration kDeadline = absl::Seconds(30);

// Keeps what a supervisor says.
class RecordingSink final : public SessionSink {
 public:
  void Send(v1::SessionRequest message) override {
    absl::MutexLock lock(&mutex_);
    for (const v1::RankReport& report : message.reports().reports()) {
      if (report.has_started()) pid_ = report.started().pid();
    }
    if (message.has_rank_exited()) exited_ = message.rank_exited();
  }
  // Of the rank, once it has said so; 0 where it does not.
  pid_t WaitForPid() {
    absl::MutexLock lock(&mutex_);
    const auto known = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return pid_ != 0; };
    mutex_.AwaitWithTimeout(absl::Condition(&known), kDeadline);
    return pid_;
  }
  std::optional<v1::RankExited> WaitForExit() {
    absl::MutexLock lock(&mutex_);
    const auto known = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return exited_.has_value(); };
    mutex_.AwaitWithTimeout(absl::Condition(&known), kDeadline);
    return exited_;
  }

 private:
  absl::Mutex mutex_;
  pid_t pid_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<v1::RankExited> exited_ ABSL_GUARDED_BY(mutex_);
};

class SupervisorTest : public ::testing::Test {
 protected:
  SupervisorTest() {
    std::filesystem::create_directory(folder_.File("runs"));
    std::filesystem::create_symlink(MOE_SCRIPTED_RANK, folder_.File("moe-rank"));
  }
  ~SupervisorTest() override {
    supervisor_.reset();
    if (auto rank = Adopt(); rank.has_value()) rank->Kill();
  }

  void Open(int64_t tick_ms) {
    supervisor_.reset();
    v1::Slot slot;
    slot.set_threads(1);
    auto supervisor = Supervisor::Open({.runs_path = folder_.File("runs"),
                                        .bin_dir = folder_.path(),
                                        .slots = {slot},
                                        .clock = &clock_,
                                        .metrics = &metrics_,
                                        .fence_grace_ms = 100,
                                        .tick_ms = tick_ms});
    ASSERT_TRUE(supervisor.ok()) << supervisor.status();
    supervisor_ = *std::move(supervisor);
  }
  void StartSession() {
    v1::Registered registered;
    registered.set_lease_ttl_ms(60'000);
    auto* cursor = registered.add_cursors();
    *cursor->mutable_attempt() = TheAttempt();
    supervisor_->SessionStarted(registered, sink_, clock_.MonotonicMillis());
  }
  void Deliver(const v1::SessionResponse& message) { supervisor_->Deliver(message); }
  // Starts a rank and returns its process once it has reported; 0 where it does not.
  pid_t StartRank(const Json& script, int64_t lease_ttl_ms) {
    v1::SessionResponse message;
    v1::StartAttempt& start = *message.mutable_start();
    *start.mutable_attempt() = TheAttempt();
    start.add_ranks();
    start.set_run_spec_json(Json{
        {"format", "moe-run-spec"},
        {"version", 1},
        {"world_size", 1},
        {"lease_ttl_ms", lease_ttl_ms},
        {"spec",
         {{"script", script}}}}.dump());
    Deliver(message);
    pid_ = sink_->WaitForPid();
    return pid_;
  }
  std::optional<RankProcess> Adopt() const {
    const auto identity = IdentifyProcess(pid_);
    if (pid_ == 0 || !identity.ok()) return std::nullopt;
    auto process = RankProcess::Adopt(*identity);
    if (!process.ok()) return std::nullopt;
    return *std::move(process);
  }
  static v1::AttemptRef TheAttempt() {
    v1::AttemptRef ref;
    ref.set_job_id("j1");
    ref.set_attempt(1);
    return ref;
  }

  TemporaryFolder folder_;
  RealClock clock_;
  WorkerMetrics metrics_;
  std::shared_ptr<RecordingSink> sink_ = std::make_shared<RecordingSink>();
  std::unique_ptr<Supervisor> supervisor_;
  pid_t pid_ = 0;
};

TEST_F(SupervisorTest, RankThatCannotStopItself_IsKilledAfterTheLeaseAndTheGrace) {
  Open(/*tick_ms=*/10);
  StartSession();
  const pid_t pid = StartRank({{{"get", "never"}}}, /*lease_ttl_ms=*/1'500);
  ASSERT_NE(pid, 0);
  // Its own watch over the lease stands still with it.
  ASSERT_EQ(::kill(pid, SIGSTOP), 0);

  // The next daemon knows of the lease only what the run spec says.
  Open(/*tick_ms=*/10);
  const int64_t opened_ms = clock_.MonotonicMillis();
  const auto process = Adopt();
  ASSERT_TRUE(process.has_value());
  pollfd end = {process->pidfd(), POLLIN, 0};
  EXPECT_EQ(::poll(&end, 1, 30'000), 1) << "it was not killed";
  EXPECT_GE(clock_.MonotonicMillis() - opened_ms, 1'400);
  EXPECT_EQ(metrics_.rank_kills_lease.Value(), 1);

  // The end of it is told in the next session.
  StartSession();
  EXPECT_TRUE(sink_->WaitForExit().has_value());
}

// Whatever a rank does is an event: nothing waits until somebody looks again.
TEST_F(SupervisorTest, RankIsHeardOrderedAndEnded_WithoutATick) {
  Open(/*tick_ms=*/3'600'000);
  StartSession();
  ASSERT_NE(StartRank({{{"get", "go"}}, {{"report", 3}}}, /*lease_ttl_ms=*/60'000), 0);
  v1::SessionResponse message;
  *message.mutable_command()->mutable_attempt() = TheAttempt();
  message.mutable_command()->set_json(
      Json{{"type", "rendezvous"}, {"key", "go"}, {"value", ""}}.dump());
  Deliver(message);
  const auto exited = sink_->WaitForExit();
  ASSERT_TRUE(exited.has_value());
  EXPECT_EQ(exited->exit_code(), 0);
}

}  // namespace
}  // namespace moe::worker
