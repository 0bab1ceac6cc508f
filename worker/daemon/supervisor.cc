#include "worker/daemon/supervisor.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/synchronization/notification.h"
#include "common/status.h"

namespace moe::worker {

absl::StatusOr<std::unique_ptr<Supervisor>> Supervisor::Open(const Options& options) {
  FileDescriptor wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return ErrnoStatus(errno, "cannot make an eventfd");
  MOE_ASSIGN_OR_RETURN(SocketWatch sockets, SocketWatch::Open());
  std::unique_ptr<Supervisor> supervisor(
      new Supervisor(options, std::move(wake), std::move(sockets)));
  MOE_RETURN_IF_ERROR(supervisor->attempts_.TakeOver(&supervisor->lease_until_ms_));
  supervisor->attempts_.ForEachRank([&supervisor](Attempt& attempt, Rank& rank) {
    if (rank.running()) supervisor->AwaitSocket(attempt, rank);
  });
  supervisor->UpdateGauges();
  supervisor->thread_ = std::thread([s = supervisor.get()] { s->Run(); });
  return supervisor;
}

Supervisor::Supervisor(const Options& options, FileDescriptor wake, SocketWatch sockets)
    : options_(options),
      starter_({.bin_dir = options.bin_dir,
                .rank_host = options.rank_host,
                .slots = options.slots,
                .clock = options.clock,
                .metrics = options.metrics}),
      wake_(std::move(wake)),
      sockets_(std::move(sockets)),
      attempts_(options.runs_path, options.clock),
      relay_(&attempts_, options.clock, options.metrics) {}

Supervisor::~Supervisor() {
  if (!thread_.joinable()) return;
  Post([this] {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
  });
  thread_.join();
  int running = 0;
  attempts_.ForEachRank([&running](Attempt&, Rank& rank) { running += rank.running() ? 1 : 0; });
  if (running > 0) {
    spdlog::info(
        "running={} ranks are left running: the next moe-worker on this state folder takes them "
        "over; without one they stop when their lease runs out",
        running);
  }
}

void Supervisor::Post(std::function<void()> work) {
  {
    absl::MutexLock lock(&mutex_);
    posted_.push_back(std::move(work));
  }
  const uint64_t one = 1;
  // EAGAIN means that the counter is full: the thread is being woken anyway.
  [[maybe_unused]] const ssize_t n = ::write(wake_.get(), &one, sizeof one);
}

std::vector<AttemptKey> Supervisor::Attempts() {
  std::vector<AttemptKey> keys;
  absl::Notification done;
  Post([this, &keys, &done] {
    keys = attempts_.Keys();
    done.Notify();
  });
  done.WaitForNotification();
  return keys;
}

void Supervisor::SessionStarted(const v1::Registered& registered, std::shared_ptr<SessionSink> sink,
                                int64_t heard_ms) {
  Post([this, registered, sink = std::move(sink)]() mutable {
    relay_.Begin(std::move(sink), registered);
    SendSpeed();
  });
  RenewLease(heard_ms + registered.lease_ttl_ms());
}

void Supervisor::SetSpeed(v1::DeviceSpeed speed) {
  Post([this, speed = std::move(speed)] {
    speed_ = speed;
    SendSpeed();
  });
}

void Supervisor::SendSpeed() {
  if (!speed_.has_value()) return;
  v1::SessionRequest request;
  *request.mutable_speed() = *speed_;
  relay_.Send(std::move(request));
}

void Supervisor::SessionEnded() {
  Post([this] { relay_.End(); });
}

void Supervisor::Deliver(v1::SessionResponse message) {
  Post([this, message = std::move(message)] { Handle(message); });
}

void Supervisor::RenewLease(int64_t until_ms) {
  Post([this, until_ms] {
    if (lease_renewed_ && until_ms <= lease_until_ms_) return;
    lease_renewed_ = true;
    lease_until_ms_ = until_ms;
    attempts_.ForEachRank([until_ms](Attempt&, Rank& rank) {
      if (rank.running()) rank.link.SetLease(until_ms);
    });
  });
}

void Supervisor::Run() {
  for (;;) {
    WaitForEvents();
    std::vector<std::function<void()>> posted;
    {
      absl::MutexLock lock(&mutex_);
      posted.swap(posted_);
    }
    for (const auto& work : posted) work();
    {
      absl::MutexLock lock(&mutex_);
      if (closing_) return;
    }
    HandleEnds();
    Enforce();
    relay_.Relay();
    attempts_.RemoveForgotten();
    UpdateGauges();
  }
}

void Supervisor::WaitForEvents() {
  constexpr size_t kOwnFds = 2;
  std::vector<pollfd> fds = {{wake_.get(), POLLIN, 0}, {sockets_.fd(), POLLIN, 0}};
  std::vector<Rank*> ranks;
  attempts_.ForEachRank([&fds, &ranks](Attempt&, Rank& rank) {
    if (!rank.running()) return;
    ranks.push_back(&rank);
    fds.push_back({rank.process->pidfd(), POLLIN, 0});
    fds.push_back({rank.link.fd(), rank.link.poll_events(), 0});
  });
  const int64_t until_tick_ms =
      std::clamp<int64_t>(next_tick_ms_ - options_.clock->MonotonicMillis(), 0, options_.tick_ms);
  const int ready = ::poll(fds.data(), fds.size(), static_cast<int>(until_tick_ms));
  if (ready < 0 && errno != EINTR) {
    spdlog::error("{}", Message(ErrnoStatus(errno, "cannot poll")));
  }
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t n = ::read(wake_.get(), &count, sizeof count);
  const std::vector<int> listening = sockets_.Take();

  const int64_t now = options_.clock->MonotonicMillis();
  const bool tick = ready == 0 || now >= next_tick_ms_;
  if (tick) {
    next_tick_ms_ = now + options_.tick_ms;
    attempts_.ForEachRank([](Attempt&, Rank& rank) { rank.news = true; });
  }
  for (size_t i = 0; i < ranks.size(); ++i) {
    Rank& rank = *ranks[i];
    rank.has_ended = fds[kOwnFds + 2 * i].revents != 0;
    if (!rank.link.connected()) {
      const bool listens =
          std::find(listening.begin(), listening.end(), rank.watch) != listening.end();
      if (tick || listens) rank.link.TryConnect();
    } else if (fds[kOwnFds + 2 * i + 1].revents != 0) {
      rank.link.HandleEvents(now);
      rank.news = true;
    }
  }
}

void Supervisor::AwaitSocket(Attempt& attempt, Rank& rank) {
  const absl::StatusOr<int> watch = sockets_.Add(rank.folder.path());
  if (watch.ok()) {
    rank.watch = *watch;
  } else {  // it is found at the next tick
    spdlog::warn("attempt={} rank={}: {}", attempt.key.Name(), rank.number,
                 Message(watch.status()));
  }
}

void Supervisor::HandleEnds() {
  attempts_.ForEachRank([this](Attempt& attempt, Rank& rank) {
    if (!rank.running() || !rank.has_ended) return;
    const std::optional<ProcessExit> exit = rank.process->TryReap();
    if (!exit.has_value()) return;
    rank.process.reset();
    rank.link.Close();
    rank.exit = *exit;
    rank.ended_ms = options_.clock->MonotonicMillis();
    rank.news = true;
    spdlog::info("attempt={} rank={} ended exit_code={} signal={}", attempt.key.Name(), rank.number,
                 exit->exit_code, exit->signal);
    WorkerMetrics& metrics = *options_.metrics;
    (exit->signal != 0       ? metrics.rank_exits_signal
     : exit->exit_code == 0  ? metrics.rank_exits_ok
     : exit->exit_code == -1 ? metrics.rank_exits_unknown
                             : metrics.rank_exits_error)
        .Increment();
    if (const absl::Status status = rank.folder.WriteExit(*exit); !status.ok()) {
      // Only a restarted daemon would read it, and then say that the exit is not known.
      spdlog::warn("attempt={} rank={}: {}", attempt.key.Name(), rank.number, Message(status));
    }
  });
}

void Supervisor::Enforce() {
  const int64_t now = options_.clock->MonotonicMillis();
  attempts_.ForEachRank([this, now](Attempt& attempt, Rank& rank) {
    if (!rank.running() || rank.killed) return;
    if (now >= lease_until_ms_ + options_.fence_grace_ms) {
      spdlog::error("attempt={} rank={} killed: the lease ran out {} ms ago and it still runs",
                    attempt.key.Name(), rank.number, now - lease_until_ms_);
      options_.metrics->rank_kills_lease.Increment();
      rank.Kill();
    } else if (attempt.kill_at_ms.has_value() && now >= *attempt.kill_at_ms) {
      spdlog::warn("attempt={} rank={} killed: it still ran when the grace for stopping was over",
                   attempt.key.Name(), rank.number);
      options_.metrics->rank_kills_grace.Increment();
      rank.Kill();
    }
  });
}

void Supervisor::UpdateGauges() {
  size_t busy = 0;
  attempts_.ForEachRank([&busy](Attempt&, Rank& rank) { busy += rank.running() ? 1 : 0; });
  busy = std::min(busy, options_.slots.size());
  WorkerMetrics& metrics = *options_.metrics;
  metrics.slots_busy.Set(static_cast<double>(busy));
  metrics.slots_free.Set(static_cast<double>(options_.slots.size() - busy));
  metrics.attempts.Set(static_cast<double>(attempts_.size()));
  const int64_t remaining_ms = lease_until_ms_ - options_.clock->MonotonicMillis();
  metrics.lease_remaining_seconds.Set(static_cast<double>(std::max<int64_t>(remaining_ms, 0)) /
                                      1000);
}

void Supervisor::Handle(const v1::SessionResponse& message) {
  switch (message.message_case()) {
    case v1::SessionResponse::kStart:
      return Start(message.start());
    case v1::SessionResponse::kStop:
      return Stop(message.stop());
    case v1::SessionResponse::kForget:
      return Forget(message.forget());
    case v1::SessionResponse::kReportAck:
      if (Rank* rank =
              attempts_.FindRank(message.report_ack().attempt(), message.report_ack().rank())) {
        rank->reports.Acknowledge(message.report_ack().seq());
        rank->news = true;  // what was held back
      }
      return;
    case v1::SessionResponse::kLogAck:
      if (Rank* rank = attempts_.FindRank(message.log_ack().attempt(), message.log_ack().rank())) {
        rank->log.Acknowledge(message.log_ack().offset());
        rank->news = true;
      }
      return;
    case v1::SessionResponse::kCommand:
      return Command(message.command());
    case v1::SessionResponse::kRegistered:
    case v1::SessionResponse::kHeartbeatAck:
    case v1::SessionResponse::MESSAGE_NOT_SET:
      // The session's own, or of a newer coordinator.
      return;
  }
}

void Supervisor::Start(const v1::StartAttempt& order) {
  if (Attempt* known = attempts_.Find(order.attempt())) {
    // The order again, because the coordinator has heard nothing yet.
    known->relayed = true;
    for (auto& [number, rank] : known->ranks) rank.news = true;
    return;
  }
  const int64_t over_ms = options_.clock->MonotonicMillis() - lease_until_ms_;
  if (over_ms >= 0) {
    // The order was long on its way, and the slots may be another attempt's by now.
    spdlog::warn("attempt={}.{} not started: the lease ran out {} ms ago", order.attempt().job_id(),
                 order.attempt().attempt(), over_ms);
    return;  // the coordinator repeats the order where it still wants it
  }
  const auto created = attempts_.Create(order);
  if (!created.ok()) {
    spdlog::error("attempt={}.{} refused: {}", order.attempt().job_id(), order.attempt().attempt(),
                  Message(created.status()));
    options_.metrics->rank_start_failures.Increment();
    return relay_.Refuse(order, Message(created.status()));
  }
  Attempt& attempt = **created;
  attempt.relayed = true;
  for (const v1::RankPlacement& placement : order.ranks()) {
    Rank& rank = attempt.ranks.at(placement.rank());
    AwaitSocket(attempt, rank);
    starter_.Start(attempt, rank, placement.slot(), order.kind(), lease_until_ms_);
    if (rank.running()) rank.link.SetLease(lease_until_ms_);
  }
}

void Supervisor::Stop(const v1::StopAttempt& order) {
  Attempt* attempt = attempts_.Find(order.attempt());
  if (attempt == nullptr) return;
  const int64_t kill_at_ms = options_.clock->MonotonicMillis() + order.grace_ms();
  // An order that is repeated does not prolong the grace.
  attempt->kill_at_ms = std::min(attempt->kill_at_ms.value_or(kill_at_ms), kill_at_ms);
  spdlog::info("attempt={} told to stop reason={} grace_ms={}", attempt->key.Name(), order.reason(),
               order.grace_ms());
  for (auto& [number, rank] : attempt->ranks) {
    if (rank.running()) rank.link.SetStop(order.reason());
  }
}

void Supervisor::Forget(const v1::ForgetAttempt& order) {
  Attempt* attempt = attempts_.Find(order.attempt());
  if (attempt == nullptr) return;
  attempt->forgotten = true;
  attempt->relayed = false;
  for (auto& [number, rank] : attempt->ranks) rank.Kill();
}

void Supervisor::Command(const v1::RankCommand& command) {
  Attempt* attempt = attempts_.Find(command.attempt());
  if (attempt == nullptr) return;
  if (command.json().find('\n') != std::string::npos || command.json().size() > kMaxRunLineBytes) {
    spdlog::error("attempt={}: a command of {} bytes that is not one line; dropped",
                  attempt->key.Name(), command.json().size());
    return;
  }
  for (auto& [number, rank] : attempt->ranks) {
    if (rank.running() && (command.rank() == -1 || command.rank() == number)) {
      rank.link.SendCommand(command.json());
    }
  }
}

}  // namespace moe::worker
