#include "coordinator/control_socket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <utility>

#include "common/status.h"
#include "common/unix_socket.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::coordinator {
namespace {

using ::testing::HasSubstr;

class ControlSocketTest : public ::testing::Test {
 protected:
  ControlSocketTest() {
    auto socket = ControlSocket::Listen(path_, [](const Json& request) -> absl::StatusOr<Json> {
      if (request.contains("refuse")) return ResourceExhausted("the disk is full");
      return Json{{"heard", request}};
    });
    EXPECT_TRUE(socket.ok()) << socket.status();
    socket_ = *std::move(socket);
  }

  TemporaryFolder folder_;
  const std::string path_ = ControlSocketPath(folder_.path());
  std::unique_ptr<ControlSocket> socket_;
};

TEST_F(ControlSocketTest, Answer_AndErrors_ComeBackAsTheyAre) {
  const auto answer = AskCoordinator(folder_.path(), {{"command", "x"}});
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(*answer, (Json{{"heard", {{"command", "x"}}}}));
  const auto refused = AskCoordinator(folder_.path(), {{"refuse", true}});
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status())) << refused.status();
  EXPECT_EQ(Message(refused.status()), "the disk is full");
}

TEST_F(ControlSocketTest, WhatIsNoRequest_IsRefusedAndHarmsNobody) {
  for (const std::string& sent : {std::string("{not json\n"), std::string(100'000, 'x')}) {
    auto connection = ConnectUnix(path_);
    ASSERT_TRUE(connection.ok()) << connection.status();
    // The socket may be closed in the middle of what is too long.
    (void)::send(connection->get(), sent.data(), sent.size(), MSG_NOSIGNAL);
  }
  { const auto silent = ConnectUnix(path_); }
  EXPECT_TRUE(AskCoordinator(folder_.path(), {{"command", "x"}}).ok());
}

TEST_F(ControlSocketTest, NobodyListens_IsUnavailable) {
  socket_.reset();
  const auto answer = AskCoordinator(folder_.path(), {{"command", "x"}});
  EXPECT_TRUE(absl::IsUnavailable(answer.status())) << answer.status();
  EXPECT_THAT(Message(answer.status()), HasSubstr("no coordinator listens at " + path_));
}

TEST_F(ControlSocketTest, SocketOfAKilledCoordinator_IsReplaced) {
  const auto before = std::move(socket_);  // kill -9 leaves the file; here it goes on, unheard
  auto again = ControlSocket::Listen(
      path_, [](const Json&) -> absl::StatusOr<Json> { return Json("the new one"); });
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*AskCoordinator(folder_.path(), Json::object()), "the new one");
}

}  // namespace
}  // namespace moe::coordinator
