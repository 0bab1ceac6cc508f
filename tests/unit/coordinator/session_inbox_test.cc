#include "coordinator/session_inbox.h"

#include <gmock/gmock.h>

#include "tests/unit/coordinator/core_fixture.h"

namespace moe::coordinator {
namespace {

using ::testing::HasSubstr;

class SessionInboxTest : public CoreFixture {
 protected:
  SessionInbox Inbox(std::optional<std::string> certificate_id = std::nullopt) {
    return SessionInbox(workers_.get(), supervisor_.get(), std::move(certificate_id));
  }
  static v1::SessionRequest Hello(const std::string& worker) {
    v1::SessionRequest request;
    request.mutable_register_()->set_worker_id(worker);
    request.mutable_register_()->set_protocol_version(1);
    request.mutable_register_()->add_slots()->set_index(0);
    return request;
  }
  static v1::SessionRequest Beat() {
    v1::SessionRequest request;
    request.mutable_heartbeat()->set_seq(1);
    return request;
  }
  absl::Status Handle(SessionInbox& inbox, const v1::SessionRequest& message,
                      const std::shared_ptr<FakeSession>& session) {
    absl::Status status;
    queue_->Change([&](Turn& turn) { status = inbox.Handle(turn, message, session); });
    return status;
  }
};

TEST_F(SessionInboxTest, FirstMessageIsNotRegister_IsRefused_AndSoIsTheRest) {
  const auto session = std::make_shared<FakeSession>();
  SessionInbox inbox = Inbox();
  EXPECT_TRUE(absl::IsInvalidArgument(Handle(inbox, Beat(), session)));
  EXPECT_TRUE(Handle(inbox, Hello("w1"), session).ok());
  EXPECT_EQ(workers_->StateOf("w1", 0), v1::WORKER_STATE_UNSPECIFIED);
}

TEST_F(SessionInboxTest, SecondRegister_IsRefused) {
  const auto session = std::make_shared<FakeSession>();
  SessionInbox inbox = Inbox();
  ASSERT_TRUE(Handle(inbox, Hello("w1"), session).ok());
  EXPECT_THAT(Handle(inbox, Hello("w1"), session).ToString(), HasSubstr("first message"));
}

TEST_F(SessionInboxTest, MessageOfAReplacedSession_IsVoid) {
  const auto old_session = std::make_shared<FakeSession>();
  const auto new_session = std::make_shared<FakeSession>();
  SessionInbox old_inbox = Inbox();
  SessionInbox new_inbox = Inbox();
  ASSERT_TRUE(Handle(old_inbox, Hello("w1"), old_session).ok());
  ASSERT_TRUE(Handle(new_inbox, Hello("w1"), new_session).ok());
  const size_t heard = new_session->sent.size();

  EXPECT_TRUE(Handle(old_inbox, Beat(), old_session).ok());
  EXPECT_EQ(new_session->sent.size(), heard);
  old_inbox.Closed(old_session.get());
  EXPECT_EQ(workers_->StateOf("w1", 0), v1::WORKER_STATE_READY);
}

TEST_F(SessionInboxTest, CertificateOfAnotherWorker_IsRefused) {
  const auto session = std::make_shared<FakeSession>();
  SessionInbox inbox = Inbox("w2");
  const absl::Status status = Handle(inbox, Hello("w1"), session);
  EXPECT_TRUE(absl::IsPermissionDenied(status));
  EXPECT_THAT(Message(status), HasSubstr("worker 'w2'"));
}

}  // namespace
}  // namespace moe::coordinator
