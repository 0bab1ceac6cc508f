#include "coordinator/transport_watch.h"

#include <gmock/gmock.h>
#include <grpc/support/log.h>
#include <gtest/gtest.h>

#include <string>

namespace moe::coordinator {
namespace {

using ::testing::Contains;
using ::testing::EndsWith;

constexpr char kServer[] = "./src/core/ext/transport/chttp2/server/chttp2_server.cc";

// Lines of gRPC 1.51, as a coordinator with TLS saw them.
struct Line {
  const char* reason;
  absl::StatusCode code;
  const char* message;
};

class HandshakeLineTest : public ::testing::TestWithParam<Line> {};

TEST_P(HandshakeLineTest, IsUnderstood) {
  const auto failed = ReadGrpcLogLine(kServer, GetParam().message);
  ASSERT_TRUE(failed.has_value());
  EXPECT_EQ(failed->reason, GetParam().reason);
  EXPECT_EQ(failed->why.code(), GetParam().code);
  EXPECT_THAT(HandshakeFailureReasons(), Contains(failed->reason));
}

INSTANTIATE_TEST_SUITE_P(
    All, HandshakeLineTest,
    ::testing::Values(
        Line{"no_certificate", absl::StatusCode::kUnauthenticated,
             "Handshaking failed: UNKNOWN:Tls handshake failed: SSL_ERROR_SSL: error:0A0000C7:SSL "
             "routines::peer did not return a certificate {tsi_code:10, file_line:393}"},
        Line{"bad_certificate", absl::StatusCode::kUnauthenticated,
             "Handshaking failed: UNKNOWN:Tls handshake failed: SSL_ERROR_SSL: error:0A000086:SSL "
             "routines::certificate verify failed {file_line:393, tsi_code:10}"},
        Line{"timeout", absl::StatusCode::kDeadlineExceeded,
             "Handshaking failed: UNKNOWN:Handshake read failed {file_line:487, "
             "children:[UNKNOWN:FD Shutdown {file_line:200, children:[UNKNOWN:Handshake timed out "
             "{file_line:167, file:\"./src/core/lib/transport/handshaker.cc\"}]}]}"},
        Line{"refused_by_peer", absl::StatusCode::kCancelled,
             "Handshaking failed: UNKNOWN:Tls handshake failed: SSL_ERROR_SSL: error:0A000418:SSL "
             "routines::tlsv1 alert unknown ca {tsi_code:10, file_line:393}"},
        Line{"not_tls", absl::StatusCode::kInvalidArgument,
             "Handshaking failed: UNKNOWN:Tls handshake failed: SSL_ERROR_SSL: error:0A00009C:SSL "
             "routines::http request {tsi_code:10, file_line:393}"},
        Line{"gone", absl::StatusCode::kCancelled,
             "Handshaking failed: UNKNOWN:Handshake read failed {file_line:487, "
             "children:[INTERNAL:Socket closed {target_address:\"ipv4:192.0.2.2:52884\", "
             "grpc_status:14, fd:31}]}"}));

TEST(TransportWatchTest, WhatIsNoTls_IsSaid) {
  const auto failed = ReadGrpcLogLine(
      kServer,
      "Handshaking failed: UNKNOWN:Tls handshake failed: SSL_ERROR_SSL: error:0A00009C:SSL "
      "routines::http request {tsi_code:10, file_line:393}");
  ASSERT_TRUE(failed.has_value());
  EXPECT_THAT(std::string(failed->why.message()), EndsWith(": http request"));
}

TEST(TransportWatchTest, OtherLines_AreNoFailedHandshakes) {
  EXPECT_FALSE(ReadGrpcLogLine(kServer, "Error adding port to server: no").has_value());
  EXPECT_FALSE(ReadGrpcLogLine("tcp_server_posix.cc", "Handshaking failed: EOF").has_value());
}

TEST(TransportWatchTest, HearsWhatGrpcLogs_WhileItLives) {
  int heard = 0;
  const auto log = [] {
    gpr_log(kServer, 1, GPR_LOG_SEVERITY_DEBUG, "Handshaking failed: %s", "UNKNOWN:EOF");
  };
  {
    TransportWatch watch([&](const FailedHandshake& failed) {
      EXPECT_EQ(failed.reason, "gone");
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
