#include "common/net/endpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/net/grpc_status.h"
#include "common/status.h"

namespace moe {
namespace {

TEST(EndpointTest, Parse_TakesHostAndPort) {
  EXPECT_EQ(ParseEndpoint("127.0.0.1:7070")->ToString(), "127.0.0.1:7070");
  EXPECT_EQ(ParseEndpoint("[::1]:7070")->host, "::1");
  EXPECT_EQ(ParseEndpoint("[::1]:7070")->ToString(), "[::1]:7070");
  EXPECT_EQ(ParseEndpoint("localhost:0")->port, 0);
}

TEST(EndpointTest, Parse_RefusesWhatIsNoAddress) {
  for (const char* text : {"", "7070", "localhost", "localhost:", ":7070", "localhost:70700",
                           "localhost:70x", "localhost:-1"}) {
    const auto endpoint = ParseEndpoint(text);
    EXPECT_EQ(endpoint.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(Message(endpoint.status()), ::testing::HasSubstr("HOST:PORT")) << text;
  }
}

TEST(EndpointTest, IsLoopback_OnlyWhereNobodyElseCanReachIt) {
  for (const char* host : {"127.0.0.1", "127.8.9.1", "::1", "localhost"}) {
    EXPECT_TRUE(IsLoopback({.host = host, .port = 1})) << host;
  }
  for (const char* host : {"0.0.0.0", "::", "10.0.0.1", "example.org", "::ffff:10.0.0.1"}) {
    EXPECT_FALSE(IsLoopback({.host = host, .port = 1})) << host;
  }
}

TEST(GrpcStatusTest, RoundTrip_KeepsCodeAndMessage) {
  const absl::Status status = NotFound("no job has the id 'j9'");
  EXPECT_EQ(FromGrpc(ToGrpc(status)), status);
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
}

}  // namespace
}  // namespace moe
