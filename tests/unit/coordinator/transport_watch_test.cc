#include "coordinator/transport_watch.h"

#include <gmock/gmock.h>
#include <grpc/support/log.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace moe::coordinator {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

constexpr char kServer[] = "./src/core/ext/transport/chttp2/server/chttp2_server.cc";
constexpr char kCall[] = "./src/core/lib/surface/call.cc";

// Lines of gRPC 1.51, as a coordinator with TLS saw them.
struct Line {
  const char* reason;
  absl::StatusCode code;
  const char* message;
};

class HandshakeLineTest : public ::testing::TestWithParam<Line> {};

TEST_P(HandshakeLineTest, IsUnderstood) {
  const auto refusal = ReadGrpcLogLine(kServer, GetParam().message);
  ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->kind, TransportRefusal::Kind::kHandshake);
  EXPECT_EQ(refusal->reason, GetParam().reason);
  EXPECT_EQ(refusal->why.code(), GetParam().code);
  EXPECT_THAT(HandshakeFailureReasons(), Contains(refusal->reason));
}

INSTANTIATE_TEST_SUITE_P(All, HandshakeLineTest,
                         ::testing::Values(Line{"no_certificate",
                                                absl::StatusCode::kUnauthenticated, "TODO"}));

TEST(TransportWatchTest, OversizedRequest_IsUnderstood) {
  const auto refusal = ReadGrpcLogLine(
      kCall, "RESOURCE_EXHAUSTED: Received message larger than max (17825796 vs. 16777216)");
  ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->kind, TransportRefusal::Kind::kRequest);
  EXPECT_EQ(refusal->why.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refusal->why.message()), HasSubstr("17825796 vs. 16777216"));
}

TEST(TransportWatchTest, OtherLines_AreNoRefusals) {
  EXPECT_FALSE(ReadGrpcLogLine(kCall, "set_final_status SVR").has_value());
  EXPECT_FALSE(ReadGrpcLogLine(kCall, "OK").has_value());
  EXPECT_FALSE(ReadGrpcLogLine(kServer, "Error adding port to server: no").has_value());
  EXPECT_FALSE(ReadGrpcLogLine("tcp_server_posix.cc", "Handshaking failed: EOF").has_value());
}

TEST(TransportWatchTest, HearsWhatGrpcLogs_WhileItLives) {
  int heard = 0;
  const auto log = [] {
    gpr_log(kServer, 1, GPR_LOG_SEVERITY_DEBUG, "Handshaking failed: %s", "UNKNOWN:EOF");
  };
  {
    TransportWatch watch([&](const TransportRefusal& refusal) {
      EXPECT_EQ(refusal.reason, "gone");
      ++heard;
    });
    log();
    EXPECT_EQ(heard, 1);
  }
  log();
  EXPECT_EQ(heard, 1);
}

}  // namespace
}  // namespace moe::coordinator
