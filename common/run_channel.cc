#include "common/run_channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <map>
#include <optional>
#include <thread>

#include "absl/strings/escaping.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/line_buffer.h"
#include "common/status.h"
#include "common/unix_socket.h"

namespace moe {
namespace {

constexpr size_t kMaxRendezvousValueBytes = size_t{64} << 10;

// Ends the process where it is: nothing is flushed and nobody's destructor can block it.
[[noreturn]] void EndProcess(int exit_code, const std::string& why) {
  std::fprintf(stderr, "fatal: %s\n", why.c_str());
  ::_exit(exit_code);
}

std::string DumpLine(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

constexpr int64_t kPulseMs = 1000;

// How far the rank is.
struct PulseState {
  int64_t done = 0;
  std::string phase;
};

struct Decision {
  bool committed = false;
  std::string error;
};

absl::Status ToStatus(const Decision& decision, const std::string& path) {
  if (decision.committed) return absl::OkStatus();
  return Aborted("the coordinator did not commit {}: {}", path, decision.error);
}

}  // namespace

class RunChannel::Impl {
 public:
  Impl(const Options& options, Json run_spec, int64_t lease_until_ms, FileDescriptor reports,
       FileDescriptor listener, FileDescriptor wake)
      : options_(options),
        run_spec_(std::move(run_spec)),
        lease_until_ms_(lease_until_ms),
        listener_(std::move(listener)),
        wake_(std::move(wake)),
        reports_(std::move(reports)) {
    thread_ = std::thread([this] { Serve(); });
  }

  ~Impl() {
    closing_.store(true);
    Wake();
    thread_.join();
    ::unlink(SocketPath(options_).c_str());
  }

  static std::string RankFolder(const Options& options) {
    return JoinPath(options.run_dir, "rank-" + std::to_string(options.rank));
  }
  static std::string SocketPath(const Options& options) {
    return JoinPath(RankFolder(options), "socket");
  }
  static std::string ReportsPath(const Options& options) {
    return JoinPath(RankFolder(options), "reports.jsonl");
  }

  const Options& options() const { return options_; }
  const Json& run_spec() const { return run_spec_; }
  StopReason stop_requested() const { return stop_.load(std::memory_order_acquire); }

  int64_t Report(const std::string& event, const Json& body) {
    int64_t seq = 0;
    {
      absl::MutexLock lock(&mutex_);
      seq = last_seq_ + 1;
      const std::string line =
          DumpLine({{"seq", seq}, {"unix_millis", clock_.UnixMillis()}, {event, body}});
      if (line.size() > kMaxRunLineBytes) {
        EndProcess(kCannotReportExitCode, fmt::format("a report '{}' of {} bytes; the limit is {}",
                                                      event, line.size(), kMaxRunLineBytes));
      }
      // Under the lock, so that the order of the lines is the order of seq.
      const absl::Status written =
          WriteAll(reports_.get(), line.data(), line.size(), ReportsPath(options_));
      if (!written.ok()) EndProcess(kCannotReportExitCode, Message(written));
      last_seq_ = seq;
    }
    Wake();
    return seq;
  }

  void Pulse(int64_t done, const std::string& phase) {
    absl::MutexLock lock(&mutex_);
    pulse_ = PulseState{done, phase};
  }

  absl::Status WaitForCommit(const std::string& path) {
    absl::MutexLock lock(&mutex_);
    const auto settled = [this, &path]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return decisions_.contains(path) || stop_requested() != StopReason::kNone;
    };
    mutex_.Await(absl::Condition(&settled));
    if (const auto it = decisions_.find(path); it != decisions_.end()) {
      return ToStatus(it->second, path);
    }
    return Cancelled("stopped before the coordinator decided on {}", path);
  }

  absl::Status CommitDecision(const std::string& path) const {
    absl::MutexLock lock(&mutex_);
    const auto it = decisions_.find(path);
    if (it == decisions_.end()) return Unavailable("no decision on {} yet", path);
    return ToStatus(it->second, path);
  }

  absl::StatusOr<Json> WaitForMixture(int64_t step) {
    absl::MutexLock lock(&mutex_);
    const auto settled = [this, step]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return mixtures_.contains(step) || stop_requested() != StopReason::kNone;
    };
    mutex_.Await(absl::Condition(&settled));
    if (const auto it = mixtures_.find(step); it != mixtures_.end()) return it->second;
    return Cancelled("stopped before the coordinator decided on the domain weights after step {}",
                     step);
  }

  void Put(const std::string& key, const std::string& value) {
    MOE_CHECK(value.size() <= kMaxRendezvousValueBytes);
    {
      absl::MutexLock lock(&mutex_);
      values_.emplace(key, value);
    }
    Report("rendezvous_put", {{"key", key}, {"value", absl::Base64Escape(value)}});
  }

  absl::StatusOr<std::string> Get(const std::string& key, int64_t timeout_ms) {
    absl::MutexLock lock(&mutex_);
    const auto settled = [this, &key]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return values_.contains(key) || stop_requested() != StopReason::kNone;
    };
    const bool in_time =
        mutex_.AwaitWithTimeout(absl::Condition(&settled), absl::Milliseconds(timeout_ms));
    if (const auto it = values_.find(key); it != values_.end()) return it->second;
    if (in_time) return Cancelled("stopped before rendezvous key '{}' had a value", key);
    return DeadlineExceeded(
        "no rank put rendezvous key '{}' within {} ms; did a rank of the attempt not start?", key,
        timeout_ms);
  }

 private:
  void Wake() {
    const uint64_t one = 1;
    // EAGAIN means that the counter is full: the thread is being woken anyway.
    [[maybe_unused]] const ssize_t n = ::write(wake_.get(), &one, sizeof one);
  }

  // Body of the thread. All that it alone touches is without a lock.
  void Serve() {
    while (!closing_.load()) {
      EnforceLease();
      SendReported();
      SendPulse();
      std::array<pollfd, 3> fds = {pollfd{wake_.get(), POLLIN, 0},
                                   pollfd{listener_.get(), POLLIN, 0},
                                   pollfd{connection_.get(), WantedEvents(), 0}};
      const int ready = ::poll(fds.data(), fds.size(), PollTimeoutMs());
      if (ready < 0 && errno != EINTR) {
        EndProcess(kCannotReportExitCode, Message(ErrnoStatus(errno, "cannot poll")));
      }
      // Before anything is read: an order that sat in the socket while this process was not
      // running must not bring an expired lease back.
      EnforceLease();
      if (ready <= 0) continue;
      if (fds[0].revents != 0) {
        uint64_t count = 0;
        [[maybe_unused]] const ssize_t n = ::read(wake_.get(), &count, sizeof count);
      }
      if (fds[2].revents & POLLOUT) Flush();
      if (fds[2].revents & (POLLIN | POLLHUP | POLLERR)) Receive();
      if (fds[1].revents != 0) Accept();
    }
  }

  int PollTimeoutMs() const {
    const int64_t now = clock_.MonotonicMillis();
    int64_t until = lease_expired() ? lease_until_ms_ + options_.lease_grace_ms : lease_until_ms_;
    absl::MutexLock lock(&mutex_);
    if (pulse_.has_value()) until = std::min(until, next_pulse_ms_);
    return static_cast<int>(std::clamp<int64_t>(until - now, 0, 60'000));
  }

  // Tells the worker what the rank is at, and with it that this process runs at all.
  void SendPulse() {
    const int64_t now = clock_.MonotonicMillis();
    if (now < next_pulse_ms_) return;
    next_pulse_ms_ = now + kPulseMs;
    if (!connection_.valid() || !outgoing_.empty()) return;
    std::optional<PulseState> pulse;
    {
      absl::MutexLock lock(&mutex_);
      pulse = pulse_;
    }
    if (!pulse.has_value()) return;
    outgoing_ = DumpLine({{"type", "pulse"}, {"done", pulse->done}, {"phase", pulse->phase}});
    Flush();
  }

  int16_t WantedEvents() const {
    return static_cast<int16_t>(outgoing_.empty() ? POLLIN : POLLIN | POLLOUT);
  }

  bool lease_expired() const { return stop_requested() == StopReason::kLeaseExpired; }

  void EnforceLease() {
    const int64_t now = clock_.MonotonicMillis();
    if (now < lease_until_ms_) return;
    RequestStop(StopReason::kLeaseExpired);
    if (now >= lease_until_ms_ + options_.lease_grace_ms) {
      EndProcess(
          kLeaseExpiredExitCode,
          fmt::format("the lease ran out and the rank did not stop within {} ms; it is ended "
                      "so that another attempt can run",
                      options_.lease_grace_ms));
    }
  }

  void RequestStop(StopReason reason) {
    if (reason <= stop_requested()) return;
    absl::MutexLock lock(&mutex_);  // so that waiters look at it again
    stop_.store(reason, std::memory_order_release);
  }

  void Accept() {
    FileDescriptor accepted(
        ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!accepted.valid()) return;  // it went away again
    // The newest wins: an older one belongs to a daemon that is gone.
    connection_ = std::move(accepted);
    incoming_ = LineBuffer(kMaxRunLineBytes);
    outgoing_ = DumpLine({{"type", "hello"}, {"rank", options_.rank}, {"pid", ::getpid()}});
    told_seq_ = 0;
  }

  void Disconnect() {
    connection_.Close();
    outgoing_.clear();
  }

  // Tells the worker of the newest report, at most once at a time: a worker that does not read
  // neither blocks the rank nor makes it queue.
  void SendReported() {
    if (!connection_.valid() || !outgoing_.empty()) {
      if (connection_.valid()) Flush();
      if (!connection_.valid() || !outgoing_.empty()) return;
    }
    int64_t last_seq = 0;
    {
      absl::MutexLock lock(&mutex_);
      last_seq = last_seq_;
    }
    if (last_seq == told_seq_) return;
    told_seq_ = last_seq;
    outgoing_ = DumpLine({{"type", "reported"}, {"seq", last_seq}});
    Flush();
  }

  void Flush() {
    while (!outgoing_.empty()) {
      const ssize_t n = ::send(connection_.get(), outgoing_.data(), outgoing_.size(), MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) return;
      if (n < 0) return Disconnect();
      outgoing_.erase(0, static_cast<size_t>(n));
    }
  }

  void Receive() {
    char buffer[1 << 14];
    while (connection_.valid()) {
      const ssize_t n = ::recv(connection_.get(), buffer, sizeof buffer, 0);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) return;
      if (n <= 0) return Disconnect();
      incoming_.Append(buffer, static_cast<size_t>(n));
      std::string line;
      while (incoming_.Next(&line)) HandleLine(line);
      if (incoming_.overlong()) {
        std::fprintf(stderr, "warning: the worker sent a line of over %zu bytes; disconnecting\n",
                     kMaxRunLineBytes);
        return Disconnect();
      }
    }
  }

  void HandleLine(const std::string& line) {
    const absl::Status status = TryHandleLine(line);
    if (!status.ok()) {
      std::fprintf(stderr, "warning: ignored a line of the worker: %s\n", Message(status).c_str());
    }
  }

  absl::Status TryHandleLine(const std::string& line) {
    MOE_ASSIGN_OR_RETURN(const Json json, ParseJson(line, "the line"));
    JsonReader reader(json, "the line");
    const std::string type = reader.String("type");
    if (type == "lease") {
      const int64_t until_ms = reader.Int("until_monotonic_ms");
      MOE_RETURN_IF_ERROR(reader.status());
      if (!lease_expired()) lease_until_ms_ = std::max(lease_until_ms_, until_ms);
    } else if (type == "stop") {
      const std::string reason = reader.String("reason");
      MOE_RETURN_IF_ERROR(reader.status());
      // A reason of a newer worker is a reason to stop all the same.
      RequestStop(reason == "drain" ? StopReason::kDrain : StopReason::kCancel);
    } else if (type == "artefact") {
      const std::string path = reader.String("path");
      Decision decision{.committed = reader.Bool("committed"), .error = reader.String("error", "")};
      MOE_RETURN_IF_ERROR(reader.status());
      absl::MutexLock lock(&mutex_);
      decisions_.insert_or_assign(path, std::move(decision));
    } else if (type == "mixture") {
      const int64_t step = reader.Int("step");
      MOE_RETURN_IF_ERROR(reader.status());
      absl::MutexLock lock(&mutex_);
      mixtures_.emplace(step, json);
    } else if (type == "rendezvous") {
      const std::string key = reader.String("key");
      const std::string encoded = reader.String("value");
      MOE_RETURN_IF_ERROR(reader.status());
      std::string value;
      if (!absl::Base64Unescape(encoded, &value)) {
        return InvalidArgument("the value of rendezvous key '{}' is not base64", key);
      }
      absl::MutexLock lock(&mutex_);
      values_.emplace(key, std::move(value));
    }
    return reader.status();
  }

  const Options options_;
  const Json run_spec_;
  const RealClock clock_;

  // Of the serving thread.
  int64_t lease_until_ms_;
  FileDescriptor listener_;
  FileDescriptor connection_;  // to the worker; invalid where there is none
  LineBuffer incoming_{kMaxRunLineBytes};
  std::string outgoing_;  // not yet sent
  int64_t told_seq_ = 0;  // the last `reported` on this connection
  int64_t next_pulse_ms_ = 0;

  const FileDescriptor wake_;
  std::atomic<bool> closing_ = false;
  std::atomic<StopReason> stop_ = StopReason::kNone;  // written under mutex_

  mutable absl::Mutex mutex_;
  FileDescriptor reports_ ABSL_GUARDED_BY(mutex_);
  int64_t last_seq_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<PulseState> pulse_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Decision> decisions_ ABSL_GUARDED_BY(mutex_);  // by path
  std::map<int64_t, Json> mixtures_ ABSL_GUARDED_BY(mutex_);           // by step
  std::map<std::string, std::string> values_ ABSL_GUARDED_BY(mutex_);  // by rendezvous key

  std::thread thread_;
};

namespace {

// Until when the rank may run at most before its worker first speaks to it: what the worker was
// granted when it started the rank. A rank that nobody's worker started has its TTL.
absl::StatusOr<int64_t> FirstLease(const RunChannel::Options& options, int64_t lease_ttl_ms) {
  const std::string path =
      JoinPath(JoinPath(options.run_dir, fmt::format("rank-{}", options.rank)), "lease");
  if (!FileExists(path)) return RealClock().MonotonicMillis() + lease_ttl_ms;
  MOE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  int64_t until_ms = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), until_ms);
  if (error == std::errc() && std::string(rest, text.data() + text.size()) == "\n") return until_ms;
  return InvalidArgument("{} holds '{}', not a time in milliseconds", path, text);
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunChannel>> RunChannel::Open(const Options& options) {
  const std::string spec_path = JoinPath(options.run_dir, "run.json");
  MOE_ASSIGN_OR_RETURN(Json run_spec, ReadJsonFile(spec_path));
  JsonReader reader(run_spec, spec_path);
  const std::string format = reader.String("format");
  const int64_t version = reader.Int("version");
  const int64_t lease_ttl_ms = reader.Int("lease_ttl_ms");
  const int64_t world_size = reader.Int("world_size");
  MOE_RETURN_IF_ERROR(reader.status());
  if (format != "moe-run-spec" || version != 1) {
    return InvalidArgument("{}: format '{}' version {}; this program reads moe-run-spec version 1",
                           spec_path, format, version);
  }
  if (options.rank < 0 || options.rank >= world_size) {
    return InvalidArgument("rank {} is not in the world of {} that {} describes", options.rank,
                           world_size, spec_path);
  }
  if (lease_ttl_ms <= 0) {
    return InvalidArgument("{}: lease_ttl_ms is {}; it must be positive", spec_path, lease_ttl_ms);
  }

  MOE_RETURN_IF_ERROR(MakeDirectories(Impl::RankFolder(options)));
  const std::string reports_path = Impl::ReportsPath(options);
  FileDescriptor reports(
      ::open(reports_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!reports.valid()) return ErrnoStatus(errno, "cannot open " + reports_path);
  if (::flock(reports.get(), LOCK_EX | LOCK_NB) != 0) {
    return FailedPrecondition("another process is rank {} of {}: it holds {}", options.rank,
                              options.run_dir, reports_path);
  }
  MOE_ASSIGN_OR_RETURN(const uint64_t reports_bytes, FileSize(reports_path));
  if (reports_bytes > 0) {
    return FailedPrecondition("{} has {} bytes already: a run folder serves one process per rank",
                              reports_path, reports_bytes);
  }
  MOE_ASSIGN_OR_RETURN(const int64_t lease_until_ms, FirstLease(options, lease_ttl_ms));
  FileDescriptor wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return ErrnoStatus(errno, "cannot make an eventfd");
  std::signal(SIGPIPE, SIG_IGN);
  MOE_ASSIGN_OR_RETURN(FileDescriptor listener, ListenUnix(Impl::SocketPath(options)));
  return std::unique_ptr<RunChannel>(new RunChannel(
      std::make_unique<Impl>(options, std::move(run_spec), lease_until_ms, std::move(reports),
                             std::move(listener), std::move(wake))));
}

RunChannel::RunChannel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RunChannel::~RunChannel() = default;

const Json& RunChannel::run_spec() const { return impl_->run_spec(); }
int RunChannel::rank() const { return impl_->options().rank; }
int64_t RunChannel::Report(const std::string& event, const Json& body) {
  return impl_->Report(event, body);
}
void RunChannel::Pulse(int64_t done, const std::string& phase) { impl_->Pulse(done, phase); }
StopReason RunChannel::stop_requested() const { return impl_->stop_requested(); }
absl::Status RunChannel::WaitForCommit(const std::string& path) {
  return impl_->WaitForCommit(path);
}
absl::Status RunChannel::CommitDecision(const std::string& path) const {
  return impl_->CommitDecision(path);
}
absl::StatusOr<Json> RunChannel::WaitForMixture(int64_t step) {
  return impl_->WaitForMixture(step);
}
void RunChannel::Put(const std::string& key, const std::string& value) { impl_->Put(key, value); }
absl::StatusOr<std::string> RunChannel::Get(const std::string& key, int64_t timeout_ms) {
  return impl_->Get(key, timeout_ms);
}

}  // namespace moe
