#include "coordinator/access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/net/token.h"
#include "common/status.h"

namespace moe::coordinator {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kNow = 1'700'000'000'000;

class AccessTest : public testing::Test {
 protected:
  v1::CreateTokenRequest Request(const std::string& secret, v1::Role role) {
    v1::CreateTokenRequest request;
    request.set_token_sha256(TokenSha256(secret));
    request.set_user("alice");
    request.set_role(role);
    return request;
  }
  // As the loop does it: change, write, tell.
  absl::StatusOr<v1::Token> Create(const v1::CreateTokenRequest& request) {
    Turn turn{.unix_millis = kNow};
    auto token = access_.Create(turn, request);
    writes_ = turn.batch.writes();
    for (const auto& tell : turn.after_commit) tell();
    return token;
  }
  absl::StatusOr<v1::Token> Revoke(const std::string& token_id) {
    Turn turn{.unix_millis = kNow};
    auto token = access_.Revoke(turn, token_id);
    for (const auto& tell : turn.after_commit) tell();
    return token;
  }

  Access access_{
      {}, [](const Caller&, const std::string&, const absl::Status&) {}, [](const std::string&) {}};
  std::vector<storage::Batch::Write> writes_;
};

TEST_F(AccessTest, Create_StoresTheHashAndNeverTheSecret) {
  const std::string secret = *DrawToken();
  ASSERT_TRUE(Create(Request(secret, v1::ROLE_VIEWER)).ok());
  ASSERT_EQ(writes_.size(), 1u);
  EXPECT_EQ(writes_[0].key, TokenSha256(secret));
  EXPECT_EQ(writes_[0].value->find(secret), std::string::npos);
}

TEST_F(AccessTest, Create_Repeated_GivesTheSameTokenAndWritesNothing) {
  const auto first = Create(Request("s", v1::ROLE_VIEWER));
  const auto second = Create(Request("s", v1::ROLE_VIEWER));
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->token_id(), first->token_id());
  EXPECT_TRUE(writes_.empty());
  EXPECT_EQ(Create(Request("s", v1::ROLE_ADMIN)).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(AccessTest, Create_RefusesBadFacts) {
  auto request = Request("s", v1::ROLE_VIEWER);
  request.set_token_sha256("short");
  EXPECT_THAT(Message(Create(request).status()), HasSubstr("32"));
  request = Request("s", v1::ROLE_VIEWER);
  request.set_user("a\nb");
  EXPECT_THAT(Message(Create(request).status()), HasSubstr("is not a name"));
  EXPECT_THAT(Message(Create(Request("s", v1::ROLE_UNSPECIFIED)).status()), HasSubstr("role=0"));
  request = Request("s", v1::ROLE_VIEWER);
  request.mutable_expire_time()->set_seconds(kNow / 1000);
  EXPECT_THAT(Message(Create(request).status()), HasSubstr("past"));
  EXPECT_TRUE(access_.List().empty());
}

TEST_F(AccessTest, Revoke_KeepsOneAdmin) {
  const auto admin = Create(Request("a", v1::ROLE_ADMIN));
  EXPECT_EQ(Revoke(admin->token_id()).status().code(), absl::StatusCode::kFailedPrecondition);
  const auto other = Create(Request("b", v1::ROLE_ADMIN));
  EXPECT_TRUE(Revoke(admin->token_id()).ok());
  EXPECT_TRUE(Revoke(admin->token_id()).ok()) << "again changes nothing";
  EXPECT_TRUE(access_.HasAdmin(kNow));
  EXPECT_EQ(Revoke(other->token_id()).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Revoke("none").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(AccessTest, ExpiredAdmin_IsNoAdmin) {
  auto request = Request("a", v1::ROLE_ADMIN);
  request.mutable_expire_time()->set_seconds(kNow / 1000 + 10);
  ASSERT_TRUE(Create(request).ok());
  EXPECT_TRUE(access_.HasAdmin(kNow));
  EXPECT_FALSE(access_.HasAdmin(kNow + 10'000));
}

}  // namespace
}  // namespace moe::coordinator
