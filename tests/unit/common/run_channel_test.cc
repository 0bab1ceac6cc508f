#include "common/run_channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmath>
#include <future>
#include <thread>

#include "common/clock.h"
#include "common/file.h"
#include "common/line_buffer.h"
#include "common/unix_socket.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe {
namespace {

constexpr int64_t kDeadlineMs = 20'000;

int64_t NowMs() { return RealClock().MonotonicMillis(); }

// The worker's end of the socket.
class Worker {
 public:
  explicit Worker(const std::string& run_dir) {
    auto connection = ConnectUnix(run_dir + "/rank-0/socket");
    EXPECT_TRUE(connection.ok()) << connection.status();
    connection_ = *std::move(connection);
  }

  void Say(const Json& line) { SayRaw(line.dump() + "\n"); }
  void SayRaw(const std::string& text) {
    ASSERT_EQ(::send(connection_.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  void RenewLease(int64_t ttl_ms) {
    Say({{"type", "lease"}, {"until_monotonic_ms", NowMs() + ttl_ms}});
  }

  // The next line; null where the rank closed the connection.
  Json Hear() {
    std::string line;
    while (!lines_.Next(&line)) {
      pollfd fd = {connection_.get(), POLLIN, 0};
      EXPECT_EQ(::poll(&fd, 1, kDeadlineMs), 1) << "nothing heard";
      char buffer[4096];
      const ssize_t n = ::recv(connection_.get(), buffer, sizeof buffer, 0);
      if (n <= 0) return nullptr;
      lines_.Append(buffer, static_cast<size_t>(n));
    }
    return Json::parse(line);
  }
  Json HearUntil(const Json& wanted) {
    Json line;
    do {
      line = Hear();
    } while (line != wanted && !line.is_null());
    return line;
  }

 private:
  FileDescriptor connection_;
  LineBuffer lines_{kMaxRunLineBytes};
};

class RunChannelTest : public ::testing::Test {
 protected:
  static constexpr int64_t kLongLeaseMs = 600'000;

  std::string RunDir() const { return folder_.path(); }

  std::unique_ptr<RunChannel> OpenRank(int64_t lease_ttl_ms = kLongLeaseMs,
                                       int64_t lease_grace_ms = kLeaseGraceMs) {
    WriteSpec(lease_ttl_ms);
    auto channel = RunChannel::Open({.run_dir = RunDir(), .lease_grace_ms = lease_grace_ms});
    EXPECT_TRUE(channel.ok()) << channel.status();
    return *std::move(channel);
  }

  void WriteSpec(int64_t lease_ttl_ms) {
    folder_.Write("run.json", Json{{"format", "moe-run-spec"},
                                   {"version", 1},
                                   {"world_size", 1},
                                   {"lease_ttl_ms", lease_ttl_ms}}
                                  .dump());
  }

  std::vector<Json> Reports() const {
    std::vector<Json> reports;
    LineBuffer lines(kMaxRunLineBytes);
    const std::string content = *ReadFile(RunDir() + "/rank-0/reports.jsonl");
    lines.Append(content.data(), content.size());
    std::string line;
    while (lines.Next(&line)) reports.push_back(Json::parse(line));
    return reports;
  }

  // Blocks until the rank was told to stop.
  static StopReason WaitForStop(RunChannel& channel) {
    const auto value = channel.Get("never put", kDeadlineMs);
    EXPECT_TRUE(absl::IsCancelled(value.status())) << value.status();
    return channel.stop_requested();
  }

  TemporaryFolder folder_;
};

TEST_F(RunChannelTest, Report_IsALineWithItsSeqBeforeItReturns) {
  auto channel = OpenRank();
  EXPECT_EQ(channel->Report("started", {{"pid", 7}}), 1);
  EXPECT_EQ(channel->Report("finished", {{"summary", "two\nlines and \xff"}}), 2);
  const std::vector<Json> reports = Reports();
  ASSERT_EQ(reports.size(), 2);
  EXPECT_EQ(reports[0]["seq"], 1);
  EXPECT_EQ(reports[0]["started"]["pid"], 7);
  EXPECT_GT(reports[0]["unix_millis"], 1'700'000'000'000);
  EXPECT_EQ(reports[1]["finished"]["summary"], "two\nlines and \xEF\xBF\xBD");
}

TEST_F(RunChannelTest, Report_FromManyThreads_HasEverySeqOnceInOrder) {
  auto channel = OpenRank();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&channel] {
      for (int j = 0; j < 50; ++j) channel->Report("progress", Json::object());
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::vector<Json> reports = Reports();
  ASSERT_EQ(reports.size(), 200);
  for (size_t i = 0; i < reports.size(); ++i) EXPECT_EQ(reports[i]["seq"], i + 1);
}

TEST_F(RunChannelTest, Worker_HearsHelloAndWhatWasReportedBeforeAndAfterItCame) {
  auto channel = OpenRank();
  channel->Report("started", Json::object());
  Worker worker(RunDir());
  EXPECT_EQ(worker.Hear(), Json({{"type", "hello"}, {"rank", 0}, {"pid", ::getpid()}}));
  EXPECT_EQ(worker.Hear(), Json({{"type", "reported"}, {"seq", 1}}));
  channel->Report("progress", Json::object());
  EXPECT_EQ(worker.Hear(), Json({{"type", "reported"}, {"seq", 2}}));
}

TEST_F(RunChannelTest, SecondWorker_ReplacesTheFirst) {
  auto channel = OpenRank();
  Worker first(RunDir());
  EXPECT_EQ(first.Hear()["type"], "hello");
  Worker second(RunDir());
  EXPECT_EQ(second.Hear()["type"], "hello");
  EXPECT_TRUE(first.Hear().is_null());
  second.Say({{"type", "stop"}, {"reason", "cancel"}});
  EXPECT_EQ(WaitForStop(*channel), StopReason::kCancel);
}

TEST_F(RunChannelTest, Stop_OnlyGetsMoreUrgent) {
  auto channel = OpenRank();
  EXPECT_EQ(channel->stop_requested(), StopReason::kNone);
  Worker worker(RunDir());
  worker.Say({{"type", "stop"}, {"reason", "drain"}});
  EXPECT_EQ(WaitForStop(*channel), StopReason::kDrain);
  worker.Say({{"type", "stop"}, {"reason", "cancel"}});
  worker.Say({{"type", "stop"}, {"reason", "drain"}});
  worker.Say({{"type", "rendezvous"}, {"key", "after"}, {"value", ""}});
  while (!channel->Get("after", kDeadlineMs).ok()) std::this_thread::yield();
  EXPECT_EQ(channel->stop_requested(), StopReason::kCancel);
}

TEST_F(RunChannelTest, Lease_RunsOutWithoutAWorker) {
  auto channel = OpenRank(/*lease_ttl_ms=*/50);
  EXPECT_EQ(WaitForStop(*channel), StopReason::kLeaseExpired);
}

TEST_F(RunChannelTest, Lease_OfItsWorkerAtTheStart_CountsAndNotTheTtl) {
  ASSERT_TRUE(MakeDirectories(RunDir() + "/rank-0").ok());
  ASSERT_TRUE(WriteFileAtomically(RunDir() + "/rank-0/lease", std::to_string(NowMs()) + "\n").ok());
  auto channel = OpenRank(kLongLeaseMs);
  EXPECT_EQ(WaitForStop(*channel), StopReason::kLeaseExpired);
}

TEST_F(RunChannelTest, Lease_FileThatHoldsNoTime_IsRefusedNamingIt) {
  ASSERT_TRUE(MakeDirectories(RunDir() + "/rank-0").ok());
  ASSERT_TRUE(WriteFileAtomically(RunDir() + "/rank-0/lease", "soon\n").ok());
  WriteSpec(kLongLeaseMs);
  const auto channel = RunChannel::Open({.run_dir = RunDir()});
  EXPECT_TRUE(absl::IsInvalidArgument(channel.status()));
  EXPECT_THAT(channel.status().ToString(), ::testing::HasSubstr("rank-0/lease"));
}

TEST_F(RunChannelTest, Lease_RenewedInTime_OutlivesItsFirstTerm) {
  const int64_t begin_ms = NowMs();
  auto channel = OpenRank(/*lease_ttl_ms=*/400);
  Worker worker(RunDir());
  worker.RenewLease(1500);
  EXPECT_EQ(WaitForStop(*channel), StopReason::kLeaseExpired);
  EXPECT_GE(NowMs() - begin_ms, 1500);
}

TEST_F(RunChannelTest, Lease_OnceExpired_IsNotBroughtBack) {
  auto channel = OpenRank(/*lease_ttl_ms=*/50);
  EXPECT_EQ(WaitForStop(*channel), StopReason::kLeaseExpired);
  Worker worker(RunDir());
  worker.RenewLease(kLongLeaseMs);
  worker.Say({{"type", "stop"}, {"reason", "cancel"}});
  channel->Report("stopped", Json::object());
  EXPECT_EQ(worker.HearUntil({{"type", "reported"}, {"seq", 1}})["seq"], 1);
  EXPECT_EQ(channel->stop_requested(), StopReason::kLeaseExpired);
}

TEST_F(RunChannelTest, Lease_ExpiredAndGraceOver_EndsTheProcessWhereItIs) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  WriteSpec(/*lease_ttl_ms=*/30);
  EXPECT_EXIT(
      {
        auto channel = RunChannel::Open({.run_dir = RunDir(), .lease_grace_ms = 30});
        ::pause();  // a main loop that hangs
      },
      ::testing::ExitedWithCode(kLeaseExpiredExitCode), "the lease ran out");
}

TEST_F(RunChannelTest, WaitForCommit_GivesTheCoordinatorsDecision) {
  auto channel = OpenRank();
  EXPECT_TRUE(absl::IsUnavailable(channel->CommitDecision("/a")));
  Worker worker(RunDir());
  auto waiting = std::async(std::launch::async, [&] { return channel->WaitForCommit("/a"); });
  worker.Say({{"type", "artefact"}, {"path", "/b"}, {"committed", false}, {"error", "bad CRC"}});
  worker.Say({{"type", "artefact"}, {"path", "/a"}, {"committed", true}, {"error", ""}});
  EXPECT_TRUE(waiting.get().ok());
  const absl::Status refused = channel->WaitForCommit("/b");
  EXPECT_TRUE(absl::IsAborted(refused));
  EXPECT_THAT(std::string(refused.message()), ::testing::HasSubstr("bad CRC"));
}

TEST_F(RunChannelTest, WaitForMixture_GivesTheDecisionAfterThatStepAndEndsWithAStop) {
  const auto channel = OpenRank();
  Worker worker(RunDir());
  const Json third = {{"type", "mixture"}, {"step", 3}, {"weights", {{"c4", 0.1}}}};
  worker.Say({{"type", "mixture"}, {"step", 2}});
  auto waiting = std::async(std::launch::async, [&] { return channel->WaitForMixture(3); });
  worker.Say(third);
  worker.Say({{"type", "mixture"}, {"step", 3}});  // what has been said stays
  EXPECT_EQ(*waiting.get(), third);
  EXPECT_EQ(*channel->WaitForMixture(3), third);
  auto stopped = std::async(std::launch::async, [&] { return channel->WaitForMixture(4); });
  worker.Say({{"type", "stop"}, {"reason", "drain"}});
  EXPECT_TRUE(absl::IsCancelled(stopped.get().status()));
}

TEST_F(RunChannelTest, WaitForCommit_EndsWithAStop) {
  auto channel = OpenRank();
  Worker worker(RunDir());
  auto waiting = std::async(std::launch::async, [&] { return channel->WaitForCommit("/a"); });
  worker.Say({{"type", "stop"}, {"reason", "cancel"}});
  EXPECT_TRUE(absl::IsCancelled(waiting.get()));
}

TEST_F(RunChannelTest, Rendezvous_PutsAreReportedAndOwn_GetsAreAnyBytes) {
  auto channel = OpenRank();
  const std::string bytes("\0\xff\n", 3);
  channel->Put("mine", bytes);
  EXPECT_EQ(*channel->Get("mine", 0), bytes);
  EXPECT_EQ(Reports().front()["rendezvous_put"], Json({{"key", "mine"}, {"value", "AP8K"}}));

  Worker worker(RunDir());
  worker.Say({{"type", "rendezvous"}, {"key", "theirs"}, {"value", "AP8K"}});
  EXPECT_EQ(*channel->Get("theirs", kDeadlineMs), bytes);
  const absl::Status missing = channel->Get("gloo/7", 1).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(missing));
  EXPECT_THAT(std::string(missing.message()), ::testing::HasSubstr("gloo/7"));
}

TEST_F(RunChannelTest, LinesItDoesNotUnderstand_AreIgnored) {
  auto channel = OpenRank();
  Worker worker(RunDir());
  worker.SayRaw("not json\n[1,2]\n{\"type\":\"of a newer worker\"}\n{\"type\":\"lease\"}\n\n");
  worker.Say({{"type", "stop"}, {"reason", "cancel"}});
  EXPECT_EQ(WaitForStop(*channel), StopReason::kCancel);
}

TEST_F(RunChannelTest, EndlessLine_EndsTheConnectionAndNotTheRank) {
  auto channel = OpenRank();
  const std::string piece(1 << 14, 'x');
  auto endless = ConnectUnix(RunDir() + "/rank-0/socket");
  ASSERT_TRUE(endless.ok()) << endless.status();
  // Waits while the socket is full, fails once the rank has closed it.
  for (ssize_t n = 0; n >= 0 || errno == EAGAIN;) {
    pollfd fd = {endless->get(), POLLOUT, 0};
    ASSERT_EQ(::poll(&fd, 1, kDeadlineMs), 1);
    n = ::send(endless->get(), piece.data(), piece.size(), MSG_NOSIGNAL);
  }
  Worker worker(RunDir());
  EXPECT_EQ(worker.Hear()["type"], "hello");
  EXPECT_EQ(channel->stop_requested(), StopReason::kNone);
}

TEST_F(RunChannelTest, Open_FolderOfALongPath_ListensThere) {
  WriteSpec(kLongLeaseMs);
  const std::string run_dir = RunDir() + "/" + std::string(120, 'd') + "/" + std::string(60, 'e');
  ASSERT_TRUE(MakeDirectories(run_dir).ok());
  ASSERT_TRUE(WriteFileAtomically(run_dir + "/run.json", *ReadFile(RunDir() + "/run.json")).ok());
  auto channel = RunChannel::Open({.run_dir = run_dir});
  ASSERT_TRUE(channel.ok()) << channel.status();
  EXPECT_EQ(Worker(run_dir).Hear()["type"], "hello");
}

TEST_F(RunChannelTest, Open_Twice_IsRefused) {
  auto channel = OpenRank();
  EXPECT_TRUE(absl::IsFailedPrecondition(RunChannel::Open({.run_dir = RunDir()}).status()));
  channel->Report("finished", Json::object());
  channel.reset();
  const absl::Status used = RunChannel::Open({.run_dir = RunDir()}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(used));
  EXPECT_THAT(std::string(used.message()), ::testing::HasSubstr("reports.jsonl"));
}

TEST_F(RunChannelTest, Open_SpecThatIsNotOne_IsRefusedNamingIt) {
  EXPECT_TRUE(absl::IsNotFound(RunChannel::Open({.run_dir = RunDir()}).status()));
  WriteSpec(kLongLeaseMs);
  const absl::Status rank = RunChannel::Open({.run_dir = RunDir(), .rank = 1}).status();
  EXPECT_THAT(std::string(rank.message()), ::testing::HasSubstr("world of 1"));
  folder_.Write("run.json",
                R"({"format":"moe-run-spec","version":2,"world_size":1,"lease_ttl_ms":1})");
  const absl::Status version = RunChannel::Open({.run_dir = RunDir()}).status();
  EXPECT_THAT(std::string(version.message()), ::testing::HasSubstr("version 2"));
}

}  // namespace
}  // namespace moe
