#include "tests/simulation/sim_worker.h"

#include <algorithm>
#include <utility>

#include "common/net/protocol_version.h"
#include "common/run_channel.h"

namespace moe::simulation {
namespace {

constexpr int64_t kFenceGraceMillis = kLeaseGraceMs + 1000;  // worker/daemon/supervisor.h
constexpr int64_t kMaxBackoffMillis = 5000;

v1::AttemptRef RefOf(const std::pair<std::string, int>& key) {
  v1::AttemptRef ref;
  ref.set_job_id(key.first);
  ref.set_attempt(key.second);
  return ref;
}

std::pair<std::string, int> KeyOf(const v1::AttemptRef& ref) {
  return {ref.job_id(), ref.attempt()};
}

}  // namespace

SimWorker::SimWorker(World* world, SimCoordinator* coordinator, SimFiles* files,
                     RankRegistry* registry, std::string id, int slots)
    : world_(world),
      coordinator_(coordinator),
      files_(files),
      registry_(registry),
      id_(std::move(id)),
      slots_(slots),
      clock_(&world->time, world->random.Between(0, 1'000'000)) {}

SimWorker::~SimWorker() = default;

void SimWorker::ForEachLog(const std::function<void(const std::string& job, int attempt, int rank,
                                                    const Log& log)>& visit) const {
  for (const auto& [who, log] : logs_) {
    visit(who.first.first, who.first.second, who.second, log);
  }
}

void SimWorker::AfterIfUp(int64_t millis, std::function<void()> event) {
  world_->time.After(millis, [this, now = incarnation_, event = std::move(event)] {
    if (now == incarnation_ && daemon_.has_value()) event();
  });
}

void SimWorker::AfterInSession(int64_t millis, std::function<void()> event) {
  AfterIfUp(millis, [this, now = session_, event = std::move(event)] {
    if (now == session_ && daemon_->accepted) event();
  });
}

// ---------------------------------------------------------------------------------------------
// The machine

void SimWorker::StartDaemon() {
  if (daemon_.has_value()) return;
  ++incarnation_;
  daemon_.emplace();
  // Takes over the runs that are there: worker/daemon/attempt_set.cc.
  for (auto it = folders_.begin(); it != folders_.end();) {
    auto& [key, folder] = *it;
    const bool any_started = std::any_of(folder.ranks.begin(), folder.ranks.end(),
                                         [](const auto& rank) { return rank.second.started; });
    if (!any_started) {
      it = folders_.erase(it);
      continue;
    }
    Supervised& attempt = daemon_->attempts[key];
    for (auto& [number, rank] : folder.ranks) {
      attempt.ranks[number];
      if (rank.started) continue;
      rank.started = true;
      rank.exit = {-1, 0};
      v1::RankReport report;
      report.set_seq(1);
      report.mutable_failed()->set_cause(v1::CAUSE_WORKER_LOST);
      rank.reports.push_back(report);
    }
    daemon_->lease_until_ms = clock_.MonotonicMillis() + 30'000;
    ++it;
  }
  world_->Note("{} daemon starts with {} attempts", id_, folders_.size());
  Enforce();
  Connect();
}

void SimWorker::KillDaemon() {
  if (!daemon_.has_value()) return;
  world_->Note("{} daemon dies", id_);
  ++incarnation_;
  ++session_;
  const auto connection = daemon_->connection;
  daemon_.reset();
  if (connection != nullptr) connection->EndByWorker();
}

void SimWorker::KillMachine(bool folders_lost) {
  KillDaemon();
  world_->Note("{} machine dies{}", id_, folders_lost ? " and loses its folders" : "");
  for (auto& [key, folder] : folders_) {
    for (auto& [number, rank] : folder.ranks) {
      const auto process = rank.process;
      if (process != nullptr) process->Kill(9);
      if (rank.started && !rank.exit.has_value()) rank.exit = {-1, 0};
    }
  }
  if (folders_lost) folders_.clear();
}

void SimWorker::BreakConnection() {
  if (daemon_.has_value() && daemon_->connection != nullptr) daemon_->connection->BreakBetween();
}

// ---------------------------------------------------------------------------------------------
// Sessions: worker/daemon/session.cc

void SimWorker::Connect() {
  if (!coordinator_->up() || path_.up_blocked || path_.down_blocked) {
    return AfterIfUp(world_->random.Between(10, 3000), [this] { Reconnect("not reached"); });
  }
  const int64_t session = ++session_;
  const auto mine = [this, session, now = incarnation_] {
    return now == incarnation_ && session == session_ && daemon_.has_value();
  };
  // The connection needs itself in what it calls, and is alive while it calls.
  const auto self = std::make_shared<std::weak_ptr<Connection>>();
  const auto connection = Connection::Make(world_, &path_,
                                           {.to_coordinator =
                                                [this, self](const v1::SessionRequest& message) {
                                                  if (const auto c = self->lock())
                                                    coordinator_->Deliver(c, message);
                                                },
                                            .coordinator_told_of_end =
                                                [this, self] {
                                                  if (const auto c = self->lock())
                                                    coordinator_->Closed(c);
                                                },
                                            .to_worker =
                                                [this, mine](const v1::SessionResponse& message) {
                                                  if (mine()) Receive(message);
                                                },
                                            .worker_told_of_end =
                                                [this, mine](const std::string& why) {
                                                  if (mine()) Reconnect(why);
                                                }});
  *self = connection;
  coordinator_->Accept(connection);
  daemon_->connection = connection;
  daemon_->accepted = false;
  daemon_->silence_limit_ms = 10'000;
  daemon_->registered_ms = daemon_->last_heard_ms = clock_.MonotonicMillis();

  v1::SessionRequest request;
  v1::Register& hello = *request.mutable_register_();
  hello.set_worker_id(id_);
  hello.set_protocol_version(kProtocolVersions.newest);
  hello.set_oldest_protocol_version(kProtocolVersions.oldest);
  hello.set_host(id_);
  for (int i = 0; i < slots_; ++i) hello.add_slots()->set_index(i);
  for (const auto& [key, attempt] : daemon_->attempts) *hello.add_attempts() = RefOf(key);
  connection->SendUp(request);
  AfterIfUp(1000, [this, mine] {
    if (mine()) Pulse();
  });
}

void SimWorker::Reconnect(const std::string& why) {
  world_->Note("{} has no session: {}", id_, why);
  ++session_;
  if (daemon_->connection != nullptr) std::exchange(daemon_->connection, nullptr)->EndByWorker();
  if (daemon_->accepted) daemon_->backoff_ms = 200;
  daemon_->accepted = false;
  const int64_t pause = daemon_->backoff_ms;
  daemon_->backoff_ms = std::min(2 * daemon_->backoff_ms, kMaxBackoffMillis);
  AfterIfUp(pause / 2 + world_->random.Between(0, pause / 2), [this] { Connect(); });
}

// Gives up on a coordinator that is silent for too long, and sends heartbeats.
void SimWorker::Pulse() {
  const int64_t now = clock_.MonotonicMillis();
  if (now >= daemon_->last_heard_ms + daemon_->silence_limit_ms) {
    return Reconnect("nothing heard");
  }
  int64_t next = 1000;
  if (daemon_->accepted) {
    v1::SessionRequest request;
    request.mutable_heartbeat()->set_seq(++daemon_->heartbeat_seq);
    daemon_->heartbeat_sent_ms[daemon_->heartbeat_seq] = now;
    daemon_->connection->SendUp(request);
    next = daemon_->heartbeat_interval_ms;
  }
  AfterIfUp(next, [this, session = session_] {
    if (session == session_) Pulse();
  });
}

void SimWorker::Send(v1::SessionRequest message) {
  if (!daemon_->accepted) return;
  daemon_->connection->SendUp(message);
  if (world_->random.OneIn(40)) daemon_->connection->SendUp(message);
}

void SimWorker::Receive(const v1::SessionResponse& message) {
  daemon_->last_heard_ms = clock_.MonotonicMillis();
  switch (message.message_case()) {
    case v1::SessionResponse::kRegistered:
      return Accepted(message.registered());
    case v1::SessionResponse::kHeartbeatAck: {
      auto& sent = daemon_->heartbeat_sent_ms;
      const auto it = sent.find(message.heartbeat_ack().seq());
      if (it == sent.end()) return;
      RenewLease(it->second + daemon_->lease_ttl_ms);
      sent.erase(sent.begin(), std::next(it));
      return;
    }
    case v1::SessionResponse::kStart:
      return Start(message.start());
    case v1::SessionResponse::kStop:
      return Stop(message.stop());
    case v1::SessionResponse::kForget:
      return Forget(KeyOf(message.forget().attempt()));
    case v1::SessionResponse::kCommand:
      return Command(message.command());
    case v1::SessionResponse::kLogAck: {
      const v1::LogAck& ack = message.log_ack();
      int64_t& acknowledged = logs_[{KeyOf(ack.attempt()), ack.rank()}].acknowledged;
      acknowledged = std::max(acknowledged, ack.offset());
      return;
    }
    case v1::SessionResponse::kReportAck:
    case v1::SessionResponse::MESSAGE_NOT_SET:
      return;  // only bounds what is on its way
  }
}

void SimWorker::Accepted(const v1::Registered& registered) {
  world_->Note("{} is accepted", id_);
  Daemon& daemon = *daemon_;
  daemon.accepted = true;
  daemon.lease_ttl_ms = registered.lease_ttl_ms();
  daemon.heartbeat_interval_ms = registered.heartbeat_interval_ms();
  daemon.silence_limit_ms = std::max(daemon.lease_ttl_ms / 2, 2 * daemon.heartbeat_interval_ms);
  daemon.heartbeat_seq = 0;
  daemon.heartbeat_sent_ms.clear();
  for (auto& [key, attempt] : daemon.attempts) {
    attempt.relayed = false;
    for (auto& [number, relay] : attempt.ranks) relay = Relay{};
  }
  for (const v1::AttemptCursor& cursor : registered.cursors()) {
    const auto it = daemon.attempts.find(KeyOf(cursor.attempt()));
    if (it == daemon.attempts.end()) continue;
    it->second.relayed = true;
    const auto rank = it->second.ranks.find(cursor.rank());
    if (rank == it->second.ranks.end()) continue;
    rank->second.next_report = cursor.report_seq() + 1;
    rank->second.next_log = cursor.log_offset();
  }
  RenewLease(daemon.registered_ms + daemon.lease_ttl_ms);
  for (const auto& [key, attempt] : daemon.attempts) {
    for (const auto& [number, relay] : attempt.ranks) RelayRank(key, number);
  }
}

// ---------------------------------------------------------------------------------------------
// Leases and orders: worker/daemon/supervisor.cc

void SimWorker::RenewLease(int64_t until_ms) {
  if (daemon_->lease_renewed && until_ms <= daemon_->lease_until_ms) return;
  daemon_->lease_renewed = true;
  daemon_->lease_until_ms = until_ms;
  for (const auto& [key, folder] : folders_) {
    ForEachProcess(key, [&](int, SimRank& rank) { rank.SetLease(until_ms); });
  }
  AfterIfUp(std::max<int64_t>(1, until_ms + kFenceGraceMillis - clock_.MonotonicMillis()),
            [this] { Enforce(); });
}

void SimWorker::Enforce() {
  const int64_t now = clock_.MonotonicMillis();
  const bool over = now >= daemon_->lease_until_ms + kFenceGraceMillis &&
                    !world_->Has(PlantedBug::kLeaseNotEnforced);
  for (const auto& [key, attempt] : daemon_->attempts) {
    const bool grace_over = attempt.kill_at_ms.has_value() && now >= *attempt.kill_at_ms;
    if (!over && !grace_over && !attempt.forgotten) continue;
    ForEachProcess(key, [](int, SimRank& rank) { rank.Kill(9); });
  }
  RemoveForgotten();
}

void SimWorker::ForEachProcess(const Key& key, const std::function<void(int, SimRank&)>& visit) {
  const auto it = folders_.find(key);
  if (it == folders_.end()) return;
  std::vector<std::pair<int, std::shared_ptr<SimRank>>> processes;
  for (const auto& [number, rank] : it->second.ranks) {
    if (rank.process != nullptr) processes.emplace_back(number, rank.process);
  }
  for (const auto& [number, process] : processes) visit(number, *process);
}

void SimWorker::Start(const v1::StartAttempt& order) {
  const Key key = KeyOf(order.attempt());
  if (const auto known = daemon_->attempts.find(key); known != daemon_->attempts.end()) {
    known->second.relayed = true;
    if (!world_->Has(PlantedBug::kStartedTwice)) {
      for (const auto& [number, relay] : known->second.ranks) RelayRank(key, number);
      return;
    }
  }
  if (clock_.MonotonicMillis() >= daemon_->lease_until_ms) {
    world_->Note("{} does not start {}.{}: its lease is over", id_, key.first, key.second);
    return;
  }
  Supervised& attempt = daemon_->attempts[key];
  attempt.relayed = true;
  for (const v1::RankPlacement& placement : order.ranks()) {
    folders_[key].ranks[placement.rank()];
    attempt.ranks[placement.rank()];
  }
  for (const v1::RankPlacement& placement : order.ranks()) {
    StartRank(key, placement, order.run_spec_json());
  }
  path_.up_blocked |= path_.up_blocked_from_start;
}

void SimWorker::StartRank(const Key& key, const v1::RankPlacement& placement,
                          const std::string& run_spec) {
  RankFolder& folder = folders_[key].ranks[placement.rank()];
  folder.started = true;
  logs_[{key, placement.rank()}] = Log{};
  const RankIdentity who = {key.first, key.second, placement.rank(), id_, placement.slot()};
  const int number = placement.rank();
  world_->Note("{} starts {}", id_, who.Name());
  folder.process = std::make_shared<SimRank>(
      world_, &clock_, files_, registry_, who, run_spec, daemon_->lease_until_ms,
      SimRank::Folder{
          .report =
              [this, key, number](v1::RankReport report) {
                RankFolder& to = folders_[key].ranks[number];
                report.set_seq(static_cast<int64_t>(to.reports.size()) + 1);
                report.set_unix_millis(clock_.UnixMillis());
                to.reports.push_back(std::move(report));
                if (daemon_.has_value())
                  AfterIfUp(1, [this, key, number] { RelayRank(key, number); });
              },
          .log =
              [this, key, number](const std::string& text) {
                folders_[key].ranks[number].log += text;
                logs_[{key, number}].text += text;
              },
          .exited = [this, key, number](int exit_code,
                                        int signal) { Exited(key, number, exit_code, signal); }});
  folder.process->Start();
  // The lease is told over the socket, once the rank listens.
  AfterIfUp(world_->random.Between(20, 1500), [this, key, number] {
    ForEachProcess(key, [&](int rank, SimRank& process) {
      if (rank == number) process.SetLease(daemon_->lease_until_ms);
    });
  });
}

void SimWorker::Exited(const Key& key, int rank, int exit_code, int signal) {
  RankFolder& folder = folders_[key].ranks[rank];
  const auto process = std::move(folder.process);  // it is what calls
  folder.process = nullptr;
  if (!daemon_.has_value()) {
    folder.exit = {-1, 0};  // nobody saw how
    return;
  }
  folder.exit = signal != 0 ? std::pair(-1, signal) : std::pair(exit_code, 0);
  AfterIfUp(1, [this, key, rank] {
    RelayRank(key, rank);
    RemoveForgotten();
  });
}

void SimWorker::Stop(const v1::StopAttempt& order) {
  const auto it = daemon_->attempts.find(KeyOf(order.attempt()));
  if (it == daemon_->attempts.end()) return;
  const int64_t kill_at_ms = clock_.MonotonicMillis() + order.grace_ms();
  it->second.kill_at_ms = std::min(it->second.kill_at_ms.value_or(kill_at_ms), kill_at_ms);
  ForEachProcess(it->first, [&](int, SimRank& rank) { rank.Stop(order.reason()); });
  AfterIfUp(order.grace_ms() + 1, [this] { Enforce(); });
}

void SimWorker::Forget(const Key& key) {
  const auto it = daemon_->attempts.find(key);
  if (it == daemon_->attempts.end()) return;
  it->second.forgotten = true;
  it->second.relayed = false;
  ForEachProcess(key, [](int, SimRank& rank) { rank.Kill(9); });
  RemoveForgotten();
}

void SimWorker::RemoveForgotten() {
  std::erase_if(daemon_->attempts, [this](const auto& entry) {
    if (!entry.second.forgotten) return false;
    const auto it = folders_.find(entry.first);
    if (it != folders_.end()) {
      for (const auto& [number, rank] : it->second.ranks) {
        if (rank.process != nullptr) return false;
      }
      folders_.erase(it);
    }
    return true;
  });
}

void SimWorker::Command(const v1::RankCommand& command) {
  const Json json = Json::parse(command.json());
  ForEachProcess(KeyOf(command.attempt()), [&](int number, SimRank& rank) {
    if (command.rank() == -1 || command.rank() == number) rank.Command(json);
  });
}

// ---------------------------------------------------------------------------------------------
// Reports: worker/daemon/attempt_relay.cc

void SimWorker::RelayRank(const Key& key, int rank) {
  if (!daemon_->accepted) return;
  const auto attempt = daemon_->attempts.find(key);
  const auto folder = folders_.find(key);
  if (attempt == daemon_->attempts.end() || folder == folders_.end()) return;
  if (!attempt->second.relayed) return;
  Relay& relay = attempt->second.ranks[rank];
  RankFolder& files = folder->second.ranks[rank];
  const bool ended = files.process == nullptr && files.exit.has_value();

  const auto known = static_cast<int64_t>(files.reports.size());
  if (relay.next_report <= known) {
    v1::SessionRequest request;
    *request.mutable_reports()->mutable_attempt() = RefOf(key);
    request.mutable_reports()->set_rank(rank);
    for (; relay.next_report <= known; ++relay.next_report) {
      *request.mutable_reports()->add_reports() =
          files.reports[static_cast<size_t>(relay.next_report - 1)];
    }
    Send(std::move(request));
  }
  if (relay.next_log < static_cast<int64_t>(files.log.size())) {
    v1::SessionRequest request;
    *request.mutable_log()->mutable_attempt() = RefOf(key);
    request.mutable_log()->set_rank(rank);
    request.mutable_log()->set_offset(relay.next_log);
    request.mutable_log()->set_data(files.log.substr(static_cast<size_t>(relay.next_log)));
    relay.next_log = static_cast<int64_t>(files.log.size());
    Send(std::move(request));
  }
  if (!ended || relay.exit_sent) return;
  relay.exit_sent = true;
  v1::SessionRequest request;
  *request.mutable_rank_exited()->mutable_attempt() = RefOf(key);
  request.mutable_rank_exited()->set_rank(rank);
  request.mutable_rank_exited()->set_exit_code(files.exit->first);
  request.mutable_rank_exited()->set_signal(files.exit->second);
  Send(std::move(request));
}

}  // namespace moe::simulation
