// A daemon ends ranks that do not end by themselves when the lease is gone. The supervisor alone,
// without a session, so that its times can be short.
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
#include "worker/daemon/supervisor.h"

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

TEST(Fence, RankThatCannotStopItself_IsKilledAfterTheLeaseAndTheGrace) {
  TemporaryFolder folder;
  std::filesystem::create_directory(folder.File("runs"));
  std::filesystem::create_symlink(MOE_SCRIPTED_RANK, folder.File("moe-rank"));
  RealClock clock;
  WorkerMetrics metrics;
  v1::Slot slot;
  slot.set_threads(1);
  auto supervisor = Supervisor::Open({.runs_path = folder.File("runs"),
                                      .bin_dir = folder.path(),
                                      .slots = {slot},
                                      .clock = &clock,
                                      .metrics = &metrics,
                                      .fence_grace_ms = 100,
                                      .tick_ms = 10});
  ASSERT_TRUE(supervisor.ok()) << supervisor.status();
  auto sink = std::make_shared<RecordingSink>();
  v1::Registered registered;
  registered.set_lease_ttl_ms(60'000);
  (*supervisor)->SessionStarted(registered, sink, clock.MonotonicMillis());

  v1::SessionResponse message;
  v1::StartAttempt& start = *message.mutable_start();
  start.mutable_attempt()->set_job_id("j1");
  start.mutable_attempt()->set_attempt(1);
  start.add_ranks();
  start.set_run_spec_json(Json{{"format", "moe-run-spec"},
                               {"version", 1},
                               {"world_size", 1},
                               {"lease_ttl_ms", 1'500},
                               {"spec", {{"script", {{{"get", "never"}}}}}}}
                              .dump());
  (*supervisor)->Deliver(message);
  const pid_t pid = sink->WaitForPid();
  ASSERT_NE(pid, 0);
  // Its own watch over the lease stands still with it.
  ASSERT_EQ(::kill(pid, SIGSTOP), 0);
  (*supervisor).reset();

  // The next daemon knows of the lease only what the run spec says.
  supervisor = Supervisor::Open({.runs_path = folder.File("runs"),
                                 .bin_dir = folder.path(),
                                 .slots = {slot},
                                 .clock = &clock,
                                 .metrics = &metrics,
                                 .fence_grace_ms = 100,
                                 .tick_ms = 10});
  ASSERT_TRUE(supervisor.ok()) << supervisor.status();
  const int64_t opened_ms = clock.MonotonicMillis();
  auto process = RankProcess::Adopt(*IdentifyProcess(pid));
  ASSERT_TRUE(process.ok()) << process.status();
  pollfd end = {process->pidfd(), POLLIN, 0};
  EXPECT_EQ(::poll(&end, 1, 30'000), 1) << "it was not killed";
  EXPECT_GE(clock.MonotonicMillis() - opened_ms, 1'400);
  EXPECT_EQ(metrics.rank_kills_lease.Value(), 1);

  // The end of it is told in the next session.
  auto* cursor = registered.add_cursors();
  *cursor->mutable_attempt() = start.attempt();
  (*supervisor)->SessionStarted(registered, sink, clock.MonotonicMillis());
  EXPECT_TRUE(sink->WaitForExit().has_value());
}

}  // namespace
}  // namespace moe::worker
