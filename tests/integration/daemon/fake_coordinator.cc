#include "tests/integration/daemon/fake_coordinator.h"

#include <gtest/gtest.h>

#include "absl/time/time.h"

namespace moe {
namespace {

constexpr absl::Duration kDeadline = absl::Seconds(30);

v1::AttemptRef Ref(int attempt) {
  v1::AttemptRef ref;
  ref.set_job_id("j1");
  ref.set_attempt(attempt);
  return ref;
}

}  // namespace

FakeCoordinator::FakeCoordinator(const Options& options) : options_(options) {
  Listen("127.0.0.1:0");
}

FakeCoordinator::~FakeCoordinator() { server_->Shutdown(std::chrono::system_clock::now()); }

void FakeCoordinator::Listen(const std::string& address) {
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  ASSERT_NE(server_, nullptr) << "cannot listen on " << address;
  address_ = "127.0.0.1:" + std::to_string(port);
}

void FakeCoordinator::SetAcknowledging(bool acknowledging) {
  absl::MutexLock lock(&mutex_);
  acknowledging_ = acknowledging;
}

void FakeCoordinator::ReplayHeartbeatAcks() {
  absl::MutexLock lock(&mutex_);
  replaying_ = true;
}

void FakeCoordinator::SetSilent(bool silent) {
  absl::MutexLock lock(&mutex_);
  silent_ = silent;
  if (context_ != nullptr) context_->TryCancel();
}

void FakeCoordinator::Restart() {
  server_->Shutdown(std::chrono::system_clock::now());
  {
    absl::MutexLock lock(&mutex_);
    for (auto& [attempt, rank] : ranks_) {
      rank.reports.resize(static_cast<size_t>(rank.acknowledged_seq));
      rank.exited.reset();
    }
  }
  Listen(address_);
}

grpc::Status FakeCoordinator::Session(grpc::ServerContext* context, Stream* stream) {
  {
    absl::MutexLock lock(&mutex_);
    stream_ = stream;
    context_ = context;
  }
  v1::SessionRequest request;
  while (stream->Read(&request)) {
    absl::MutexLock lock(&mutex_);
    if (silent_) continue;
    const v1::SessionResponse response = Handle(request);
    if (response.message_case() != v1::SessionResponse::MESSAGE_NOT_SET) stream->Write(response);
  }
  absl::MutexLock lock(&mutex_);
  if (stream_ == stream) {
    stream_ = nullptr;
    context_ = nullptr;
  }
  return grpc::Status::OK;
}

v1::SessionResponse FakeCoordinator::HandleRegister(const v1::Register& registration) {
  registered_.clear();
  v1::SessionResponse response;
  v1::Registered& registered = *response.mutable_registered();
  registered.set_lease_ttl_ms(options_.lease_ttl_ms);
  registered.set_heartbeat_interval_ms(options_.heartbeat_interval_ms);
  for (const v1::AttemptRef& ref : registration.attempts()) {
    registered_.push_back(ref.job_id() + "." + std::to_string(ref.attempt()));
    ReceivedRank& rank = ranks_[ref.attempt()];
    rank.exited.reset();  // comes again
    v1::AttemptCursor& cursor = *registered.add_cursors();
    *cursor.mutable_attempt() = ref;
    cursor.set_report_seq(static_cast<int64_t>(rank.reports.size()));
    cursor.set_log_offset(static_cast<int64_t>(rank.log.size()));
  }
  ++sessions_;
  return response;
}

v1::SessionResponse FakeCoordinator::Handle(const v1::SessionRequest& message) {
  v1::SessionResponse response;
  if (message.has_register_()) return HandleRegister(message.register_());
  if (message.has_heartbeat()) {
    if (!replaying_) acknowledged_heartbeat_ = message.heartbeat().seq();
    response.mutable_heartbeat_ack()->set_seq(acknowledged_heartbeat_);
  } else if (message.has_reports()) {
    const v1::ReportBatch& batch = message.reports();
    ReceivedRank& rank = ranks_[batch.attempt().attempt()];
    for (const v1::RankReport& report : batch.reports()) {
      EXPECT_EQ(report.seq(), static_cast<int64_t>(rank.reports.size()) + 1)
          << "reports come in order, without gaps, and within a session once";
      rank.reports.push_back(report);
    }
    EXPECT_FALSE(rank.exited.has_value()) << "a report after the end";
    if (acknowledging_) {
      rank.acknowledged_seq = static_cast<int64_t>(rank.reports.size());
      *response.mutable_report_ack()->mutable_attempt() = batch.attempt();
      response.mutable_report_ack()->set_seq(rank.acknowledged_seq);
    }
  } else if (message.has_log()) {
    ReceivedRank& rank = ranks_[message.log().attempt().attempt()];
    EXPECT_EQ(message.log().offset(), static_cast<int64_t>(rank.log.size()));
    rank.log += message.log().data();
    *response.mutable_log_ack()->mutable_attempt() = message.log().attempt();
    response.mutable_log_ack()->set_offset(static_cast<int64_t>(rank.log.size()));
  } else if (message.has_rank_exited()) {
    ranks_[message.rank_exited().attempt().attempt()].exited = message.rank_exited();
  }
  return response;
}

void FakeCoordinator::Send(const v1::SessionResponse& message) {
  absl::MutexLock lock(&mutex_);
  ASSERT_NE(stream_, nullptr) << "no session to send to";
  stream_->Write(message);
}

void FakeCoordinator::Start(int attempt, const Json& script, int slot) {
  v1::SessionResponse message;
  v1::StartAttempt& start = *message.mutable_start();
  *start.mutable_attempt() = Ref(attempt);
  start.set_kind("train");
  start.set_run_spec_json(Json{
      {"format", "moe-run-spec"},
      {"version", 1},
      {"world_size", 1},
      {"lease_ttl_ms", options_.lease_ttl_ms},
      {"spec",
       {{"script", script}}}}.dump());
  v1::RankPlacement& placement = *start.add_ranks();
  placement.set_rank(0);
  placement.set_slot(slot);
  Send(message);
}

void FakeCoordinator::Stop(int attempt, const std::string& reason, int grace_ms) {
  v1::SessionResponse message;
  *message.mutable_stop()->mutable_attempt() = Ref(attempt);
  message.mutable_stop()->set_reason(reason);
  message.mutable_stop()->set_grace_ms(grace_ms);
  Send(message);
}

void FakeCoordinator::Forget(int attempt) {
  v1::SessionResponse message;
  *message.mutable_forget()->mutable_attempt() = Ref(attempt);
  Send(message);
}

void FakeCoordinator::Command(int attempt, const Json& command) {
  v1::SessionResponse message;
  *message.mutable_command()->mutable_attempt() = Ref(attempt);
  message.mutable_command()->set_rank(-1);
  message.mutable_command()->set_json(command.dump());
  Send(message);
}

bool FakeCoordinator::WaitForSession(int count) {
  absl::MutexLock lock(&mutex_);
  const auto reached = [this, count]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return sessions_ >= count && stream_ != nullptr;
  };
  const bool ok = mutex_.AwaitWithTimeout(absl::Condition(&reached), kDeadline);
  EXPECT_TRUE(ok) << "waited for session " << count << ", have had " << sessions_;
  return ok;
}

bool FakeCoordinator::WaitFor(int attempt, const std::string& what,
                              const std::function<bool(const ReceivedRank&)>& reached) {
  absl::MutexLock lock(&mutex_);
  const auto condition = [this, attempt, &reached]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    const auto rank = ranks_.find(attempt);
    return rank != ranks_.end() && reached(rank->second);
  };
  const bool ok = mutex_.AwaitWithTimeout(absl::Condition(&condition), kDeadline);
  EXPECT_TRUE(ok) << "waited for " << what << "; have " << ranks_[attempt].reports.size()
                  << " reports and the log:\n"
                  << ranks_[attempt].log;
  return ok;
}

bool FakeCoordinator::WaitForReport(int attempt, v1::RankReport::EventCase event) {
  return WaitFor(attempt, "a report of type " + std::to_string(event),
                 [event](const ReceivedRank& rank) {
                   return !rank.reports.empty() && rank.reports.back().event_case() == event;
                 });
}

ReceivedRank FakeCoordinator::Received(int attempt) {
  absl::MutexLock lock(&mutex_);
  return ranks_[attempt];
}

std::vector<std::string> FakeCoordinator::RegisteredAttempts() {
  absl::MutexLock lock(&mutex_);
  return registered_;
}

}  // namespace moe
