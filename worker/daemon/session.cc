#include "worker/daemon/session.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <optional>
#include <random>

#include "absl/time/time.h"
#include "common/net/grpc_status.h"
#include "common/net/protocol_version.h"
#include "common/status.h"

namespace moe::worker {

// One session. The supervisor may hold on to it, as a sink, for longer than it lasts.
class SessionClient::Session final : public SessionSink {
 public:
  Session(const Options& options, Supervisor* supervisor)
      : options_(options), supervisor_(supervisor) {}

  void Send(v1::SessionRequest message) override {
    absl::MutexLock lock(&mutex_);
    if (!closed_) queue_.push_back(std::move(message));
  }

  // Ends the session from outside. Thread-safe.
  void Cancel() {
    context_.TryCancel();
    absl::MutexLock lock(&mutex_);
    closed_ = true;
  }

  // The whole life of the session.
  absl::Status Run(const std::shared_ptr<Session>& self, bool* accepted) {
    grpc::ChannelArguments arguments;
    // A pool of its own: a new attempt to connect does not inherit the waiting time of the last.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(16 << 20);
    const auto stub = v1::WorkerService::NewStub(
        grpc::CreateCustomChannel(options_.coordinator, options_.credentials, arguments));
    last_heard_ms_ = options_.clock->MonotonicMillis();
    silence_limit_ms_ = options_.register_timeout_ms;
    const auto stream = stub->Session(&context_);

    const int64_t registered_ms = options_.clock->MonotonicMillis();
    std::thread pulse([this] { Pulse(); });
    std::thread writer;
    v1::SessionResponse response;
    if (stream->Write(Registration()) && stream->Read(&response)) {
      if (response.has_registered() && !Speaks(response.registered())) {
        spdlog::error("the coordinator wants to speak protocol {}; this worker speaks {} to {}",
                      response.registered().protocol_version(), kProtocolVersions.oldest,
                      kProtocolVersions.newest);
        context_.TryCancel();
      } else if (response.has_registered()) {
        *accepted = true;
        Accepted(response.registered(), registered_ms);
        writer = std::thread([this, &stream] { WriteAll(*stream); });
        supervisor_->SessionStarted(response.registered(), self, registered_ms);
        while (stream->Read(&response)) Received(std::move(response));
      } else {
        spdlog::error("the coordinator did not answer the registration, but sent: {}",
                      response.ShortDebugString());
        context_.TryCancel();
      }
    }
    if (*accepted) supervisor_->SessionEnded();
    {
      absl::MutexLock lock(&mutex_);
      closed_ = true;
    }
    // A write that is under way fails once the stream is broken, which it is when Read fails.
    if (writer.joinable()) writer.join();
    pulse.join();
    const grpc::Status status = stream->Finish();
    if (gave_up_.load()) {
      return Unavailable("nothing heard from the coordinator for {} ms", silence_limit_ms_.load());
    }
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  }

 private:
  using Stream = grpc::ClientReaderWriterInterface<v1::SessionRequest, v1::SessionResponse>;

  // A coordinator that does not say what is spoken knows version 1 only.
  static bool Speaks(const v1::Registered& registered) {
    const int32_t version = std::max(registered.protocol_version(), 1);
    return NewestCommon(kProtocolVersions, {version, version}).has_value();
  }

  v1::SessionRequest Registration() const {
    v1::SessionRequest request;
    v1::Register& registration = *request.mutable_register_();
    registration.set_worker_id(options_.worker_id);
    registration.set_protocol_version(kProtocolVersions.newest);
    registration.set_oldest_protocol_version(kProtocolVersions.oldest);
    registration.set_version(options_.version);
    registration.set_host(options_.host);
    for (const v1::Slot& slot : options_.slots) *registration.add_slots() = slot;
    for (const AttemptKey& key : supervisor_->Attempts()) {
      registration.add_attempts()->set_job_id(key.job_id);
      registration.mutable_attempts()->rbegin()->set_attempt(key.attempt);
    }
    return request;
  }

  void Accepted(const v1::Registered& registered, int64_t registered_ms) {
    options_.metrics->session_connected.Set(1);
    options_.metrics->sessions.Increment();
    last_heard_ms_ = options_.clock->MonotonicMillis();
    // Noticed while the leases are still good, so that a new connection can save them.
    silence_limit_ms_ =
        std::max<int64_t>(registered.lease_ttl_ms() / 2, 2 * registered.heartbeat_interval_ms());
    absl::MutexLock lock(&mutex_);
    lease_ttl_ms_ = registered.lease_ttl_ms();
    heartbeat_interval_ms_ = std::max(registered.heartbeat_interval_ms(), 1);
    next_heartbeat_ms_ = registered_ms;
    spdlog::info("coordinator={} accepted worker={} lease_ttl_ms={} heartbeat_interval_ms={}",
                 options_.coordinator, options_.worker_id, lease_ttl_ms_, heartbeat_interval_ms_);
  }

  void Received(v1::SessionResponse response) {
    last_heard_ms_ = options_.clock->MonotonicMillis();
    if (!response.has_heartbeat_ack()) return supervisor_->Deliver(std::move(response));
    std::optional<int64_t> renewed_until_ms;
    {
      absl::MutexLock lock(&mutex_);
      const int64_t seq = response.heartbeat_ack().seq();
      if (const auto sent = heartbeat_sent_ms_.find(seq); sent != heartbeat_sent_ms_.end()) {
        renewed_until_ms = sent->second + lease_ttl_ms_;
      }
      heartbeat_sent_ms_.erase(heartbeat_sent_ms_.begin(), heartbeat_sent_ms_.upper_bound(seq));
    }
    if (renewed_until_ms.has_value()) supervisor_->RenewLease(*renewed_until_ms);
  }

  // Body of the heartbeat thread; also gives up on a coordinator that is silent for too long.
  void Pulse() {
    absl::MutexLock lock(&mutex_);
    while (!closed_) {
      const int64_t now = options_.clock->MonotonicMillis();
      const int64_t give_up_ms = last_heard_ms_ + silence_limit_ms_;
      if (now >= give_up_ms) {
        gave_up_ = true;
        closed_ = true;
        context_.TryCancel();
        return;
      }
      // One at a time on the way to the wire: they must not pile up behind a slow write.
      if (now >= next_heartbeat_ms_ && !heartbeat_.has_value()) {
        heartbeat_.emplace();
        heartbeat_->mutable_heartbeat()->set_seq(++heartbeat_seq_);
        // Earlier than it is sent, so the lease that it brings is never taken for longer.
        heartbeat_sent_ms_[heartbeat_seq_] = now;
        next_heartbeat_ms_ = now + heartbeat_interval_ms_;
      }
      const int64_t planned_ms = next_heartbeat_ms_;
      const int64_t retry_ms = now + heartbeat_interval_ms_;
      const int64_t wake_ms = std::min(give_up_ms, planned_ms > now ? planned_ms : retry_ms);
      const auto changed = [this, planned_ms]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return closed_ || next_heartbeat_ms_ != planned_ms;
      };
      mutex_.AwaitWithTimeout(absl::Condition(&changed), absl::Milliseconds(wake_ms - now));
    }
  }

  // Body of the writing thread.
  void WriteAll(Stream& stream) {
    for (;;) {
      v1::SessionRequest message;
      grpc::WriteOptions options;
      {
        absl::MutexLock lock(&mutex_);
        mutex_.Await(absl::Condition(this, &Session::HasWork));
        if (closed_) return;
        if (heartbeat_.has_value()) {
          message = *std::move(heartbeat_);
          heartbeat_.reset();
        } else {
          message = std::move(queue_.front());
          queue_.pop_front();
        }
        // What is followed by more goes out with it.
        if (!queue_.empty()) options.set_buffer_hint();
      }
      if (!stream.Write(message, options)) return;  // the reader learns why
    }
  }

  bool HasWork() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return closed_ || heartbeat_.has_value() || !queue_.empty();
  }

  const Options& options_;
  Supervisor* const supervisor_;
  grpc::ClientContext context_;
  std::atomic<int64_t> last_heard_ms_ = 0;
  std::atomic<int64_t> silence_limit_ms_ = 0;
  std::atomic<bool> gave_up_ = false;

  absl::Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  // Bounded by what the supervisor leaves unacknowledged.
  std::deque<v1::SessionRequest> queue_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::SessionRequest> heartbeat_ ABSL_GUARDED_BY(mutex_);  // goes before the queue
  int64_t heartbeat_seq_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<int64_t, int64_t> heartbeat_sent_ms_ ABSL_GUARDED_BY(mutex_);  // by seq, unanswered
  int64_t next_heartbeat_ms_ ABSL_GUARDED_BY(mutex_) = std::numeric_limits<int64_t>::max();
  int lease_ttl_ms_ ABSL_GUARDED_BY(mutex_) = 0;
  int heartbeat_interval_ms_ ABSL_GUARDED_BY(mutex_) = 1;
};

SessionClient::SessionClient(const Options& options, Supervisor* supervisor)
    : options_(options), supervisor_(supervisor), thread_([this] { Run(); }) {}

SessionClient::~SessionClient() {
  std::shared_ptr<Session> session;
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
    session = session_;
  }
  if (session != nullptr) session->Cancel();
  thread_.join();
}

void SessionClient::Run() {
  std::mt19937_64 random{std::random_device{}()};
  int64_t backoff_ms = options_.min_backoff_ms;
  for (;;) {
    bool accepted = false;
    const absl::Status status = RunSession(&accepted);
    options_.metrics->session_connected.Set(0);
    if (accepted) backoff_ms = options_.min_backoff_ms;
    // Half of it at random, so that the workers of a restarted coordinator do not come as one.
    const int64_t pause_ms =
        backoff_ms / 2 + std::uniform_int_distribution<int64_t>(0, backoff_ms / 2)(random);
    backoff_ms = std::min(2 * backoff_ms, options_.max_backoff_ms);
    if (!WaitBeforeRetry(pause_ms)) return;
    spdlog::warn("coordinator={} {}: {}; connecting again after {} ms", options_.coordinator,
                 accepted ? "lost" : "not reached", ToString(status), pause_ms);
  }
}

absl::Status SessionClient::RunSession(bool* accepted) {
  auto session = std::make_shared<Session>(options_, supervisor_);
  {
    absl::MutexLock lock(&mutex_);
    if (closing_) return absl::OkStatus();
    session_ = session;
  }
  return session->Run(session, accepted);
}

bool SessionClient::WaitBeforeRetry(int64_t pause_ms) {
  absl::MutexLock lock(&mutex_);
  session_.reset();
  return !mutex_.AwaitWithTimeout(absl::Condition(&closing_), absl::Milliseconds(pause_ms));
}

}  // namespace moe::worker
