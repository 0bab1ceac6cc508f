#include "worker/daemon/rank_link.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <string>

#include "common/unix_socket.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::worker {
namespace {

// A rank's end of the socket, and the daemon's.
class RankLinkTest : public ::testing::Test {
 protected:
  RankLinkTest() : link_(folder_.File("socket")) {
    auto listener = ListenUnix(folder_.File("socket"));
    EXPECT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
    link_.TryConnect();
    pollfd waiting = {listener_.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&waiting, 1, 10'000), 1);
    rank_ = FileDescriptor(::accept(listener_.get(), nullptr, nullptr));
  }
  void Say(int64_t now_ms, int done, const std::string& phase) {
    const std::string line =
        R"({"type":"pulse","done":)" + std::to_string(done) + R"(,"phase":")" + phase + "\"}\n";
    ASSERT_EQ(::send(rank_.get(), line.data(), line.size(), 0), static_cast<ssize_t>(line.size()));
    pollfd arrived = {link_.fd(), POLLIN, 0};
    ASSERT_EQ(::poll(&arrived, 1, 10'000), 1);
    link_.HandleEvents(now_ms);
  }

  TemporaryFolder folder_;
  RankLink link_;
  FileDescriptor listener_;
  FileDescriptor rank_;
};

TEST_F(RankLinkTest, Pulse_IsNewsOnlyWhereItSaysSomethingElse) {
  EXPECT_FALSE(link_.TakePulse(0).has_value());
  Say(1000, 4, "step");
  const auto first = link_.TakePulse(1000);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->done, 4);
  EXPECT_EQ(first->phase, "step");
  EXPECT_FALSE(first->silent);
  Say(2000, 4, "step");
  EXPECT_FALSE(link_.TakePulse(2000).has_value());
  Say(3000, 5, "step");
  EXPECT_EQ(link_.TakePulse(3000)->since_ms, 3000);
}

TEST_F(RankLinkTest, RankThatSaysNothingMore_IsSilentUntilItIsHeardAgain) {
  Say(1000, 4, "step");
  ASSERT_TRUE(link_.TakePulse(1000).has_value());
  EXPECT_FALSE(link_.TakePulse(3500).has_value());
  const auto silent = link_.TakePulse(4000);
  ASSERT_TRUE(silent.has_value());
  EXPECT_TRUE(silent->silent);
  EXPECT_FALSE(link_.TakePulse(60'000).has_value()) << "that is no news any more";
  Say(61'000, 4, "step");
  const auto again = link_.TakePulse(61'000);
  ASSERT_TRUE(again.has_value());
  EXPECT_FALSE(again->silent);
  EXPECT_EQ(again->since_ms, 1000) << "it is still at the same";
}

TEST_F(RankLinkTest, RankThatNeverSaidAnything_IsSilentToo) {
  EXPECT_FALSE(link_.TakePulse(1000).has_value());
  const auto silent = link_.TakePulse(4000);
  ASSERT_TRUE(silent.has_value());
  EXPECT_TRUE(silent->silent);
  EXPECT_EQ(silent->done, 0);
}

}  // namespace
}  // namespace moe::worker
