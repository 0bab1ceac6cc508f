#include "worker/daemon/supervisor.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/synchronization/notification.h"
#include "common/status.h"
#include "common/subprocess.h"
#include "worker/daemon/rank_environment.h"

namespace moe::worker {
namespace {

// One message's worth.
constexpr size_t kReportBatchBytes = size_t{256} << 10;
constexpr size_t kLogChunkBytes = size_t{256} << 10;  // worker_service.proto
// What a rank may have on the way. Logs and reports apart, so that a flood of one does not hold up
// the other.
constexpr size_t kMaxReportBytesInFlight = size_t{2} << 20;
constexpr size_t kMaxLogBytesInFlight = size_t{1} << 20;
// The end of a rank is told after its log, but does not wait longer than this for it.
constexpr int64_t kMaxExitDelayMs = 5000;

}  // namespace

struct Supervisor::Rank {
  Rank(int number, const RankFolder& folder)
      : number(number),
        folder(folder),
        link(folder.socket_path()),
        reports(folder.reports_path()),
        log(folder.log_path()) {}

  bool running() const { return process.has_value(); }

  const int number;
  const RankFolder folder;
  std::optional<RankProcess> process;  // while it runs
  bool killed = false;                 // by this daemon; its end is awaited
  ProcessExit exit;                    // once it does not run
  int64_t ended_ms = 0;
  int slot = -1;  // -1: not known, found after a restart
  RankLink link;
  ReportRelay reports;
  LogRelay log;
  bool outbox_broken = false;  // reported in the log; nothing more can be read
  bool exit_sent = false;      // in this session
};

struct Supervisor::Attempt {
  Attempt(const AttemptKey& key, const RunFolder& folder) : key(key), folder(folder) {}

  v1::AttemptRef Ref() const {
    v1::AttemptRef ref;
    ref.set_job_id(key.job_id);
    ref.set_attempt(key.attempt);
    return ref;
  }

  const AttemptKey key;
  const RunFolder folder;
  std::map<int, Rank> ranks;
  bool relayed = false;               // the coordinator wants to hear of it in this session
  std::optional<int64_t> kill_at_ms;  // told to stop: when the grace ends
  bool forgotten = false;             // to be removed once nothing of it runs
};

absl::StatusOr<std::unique_ptr<Supervisor>> Supervisor::Open(const Options& options) {
  FileDescriptor wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return ErrnoStatus(errno, "cannot make an eventfd");
  std::unique_ptr<Supervisor> supervisor(new Supervisor(options, std::move(wake)));
  MOE_RETURN_IF_ERROR(supervisor->Load());
  supervisor->thread_ = std::thread([s = supervisor.get()] { s->Run(); });
  return supervisor;
}

Supervisor::Supervisor(const Options& options, FileDescriptor wake)
    : options_(options), wake_(std::move(wake)) {}

Supervisor::~Supervisor() {
  if (!thread_.joinable()) return;
  Post([this] {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
  });
  thread_.join();
  int running = 0;
  ForEachRank([&running](Attempt&, Rank& rank) { running += rank.running() ? 1 : 0; });
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
    for (const auto& [key, attempt] : attempts_) keys.push_back(key);
    done.Notify();
  });
  done.WaitForNotification();
  return keys;
}

void Supervisor::SessionStarted(const v1::Registered& registered, std::shared_ptr<SessionSink> sink,
                                int64_t heard_ms) {
  Post([this, registered, sink = std::move(sink)]() mutable {
    sink_ = std::move(sink);
    SendSpeed();
    for (auto& [key, attempt] : attempts_) {
      attempt.relayed = false;
      for (auto& [number, rank] : attempt.ranks) {
        rank.exit_sent = false;
        rank.reports.Rewind(0);
        rank.log.Rewind(0);
      }
    }
    for (const v1::AttemptCursor& cursor : registered.cursors()) {
      Attempt* attempt = FindAttempt(cursor.attempt());
      if (attempt == nullptr) continue;
      attempt->relayed = true;
      const auto rank = attempt->ranks.find(cursor.rank());
      if (rank == attempt->ranks.end()) continue;
      rank->second.reports.Rewind(cursor.report_seq());
      rank->second.log.Rewind(cursor.log_offset());
    }
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
  if (sink_ == nullptr || !speed_.has_value()) return;
  v1::SessionRequest request;
  *request.mutable_speed() = *speed_;
  sink_->Send(std::move(request));
}

void Supervisor::SessionEnded() {
  Post([this] { sink_.reset(); });
}

void Supervisor::Deliver(v1::SessionResponse message) {
  Post([this, message = std::move(message)] { Handle(message); });
}

void Supervisor::RenewLease(int64_t until_ms) {
  Post([this, until_ms] {
    if (lease_renewed_ && until_ms <= lease_until_ms_) return;
    lease_renewed_ = true;
    lease_until_ms_ = until_ms;
    ForEachRank([until_ms](Attempt&, Rank& rank) {
      if (rank.running()) rank.link.SetLease(until_ms);
    });
  });
}

absl::Status Supervisor::Load() {
  MOE_ASSIGN_OR_RETURN(const std::vector<AttemptKey> keys, ListRunFolders(options_.runs_path));
  for (const AttemptKey& key : keys) {
    MOE_RETURN_IF_ERROR(Annotate(LoadAttempt(key), "cannot take over the run " + key.Name()));
  }
  UpdateGauges();
  return absl::OkStatus();
}

absl::Status Supervisor::LoadAttempt(const AttemptKey& key) {
  const RunFolder folder(options_.runs_path, key);
  MOE_ASSIGN_OR_RETURN(const std::vector<int> numbers, folder.Ranks());
  Attempt attempt(key, folder);
  int started = 0, running = 0;
  for (const int number : numbers) {
    Rank& rank = attempt.ranks.try_emplace(number, number, folder.Rank(number)).first->second;
    rank.ended_ms = options_.clock->MonotonicMillis();
    MOE_ASSIGN_OR_RETURN(const auto identity, rank.folder.ReadProcess());
    if (!identity.has_value()) continue;
    ++started;
    MOE_ASSIGN_OR_RETURN(const auto exit, rank.folder.ReadExit());
    if (exit.has_value()) {
      rank.exit = *exit;
      continue;
    }
    auto process = RankProcess::Adopt(*identity);
    if (absl::IsNotFound(process.status())) continue;
    MOE_RETURN_IF_ERROR(process.status());
    rank.process = *std::move(process);
    ++running;
  }
  if (started == 0) {
    // As if the order had never come: the coordinator repeats it.
    spdlog::info("attempt={} was not started; its folder is removed", key.Name());
    return folder.Remove();
  }
  for (auto& [number, rank] : attempt.ranks) {
    MOE_ASSIGN_OR_RETURN(const auto identity, rank.folder.ReadProcess());
    if (identity.has_value()) continue;
    MOE_RETURN_IF_ERROR(rank.folder.WriteFailedReport(
        "CAUSE_WORKER_LOST", "the worker was stopped before it had started this rank",
        options_.clock->UnixMillis()));
  }
  MOE_ASSIGN_OR_RETURN(const int64_t lease_ttl_ms, folder.LeaseTtlMs());
  lease_until_ms_ = std::max(lease_until_ms_, options_.clock->MonotonicMillis() + lease_ttl_ms);
  spdlog::info("attempt={} taken over ranks={} running={}", key.Name(), numbers.size(), running);
  attempts_.emplace(key, std::move(attempt));
  return absl::OkStatus();
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
    Relay();
    RemoveForgotten();
    UpdateGauges();
  }
}

void Supervisor::WaitForEvents() {
  std::vector<pollfd> fds = {{wake_.get(), POLLIN, 0}};
  ForEachRank([&fds](Attempt&, Rank& rank) {
    if (!rank.running()) return;
    fds.push_back({rank.process->pidfd(), POLLIN, 0});
    fds.push_back({rank.link.fd(), rank.link.poll_events(), 0});
  });
  if (::poll(fds.data(), fds.size(), static_cast<int>(options_.tick_ms)) < 0 && errno != EINTR) {
    spdlog::error("{}", Message(ErrnoStatus(errno, "cannot poll")));
  }
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t n = ::read(wake_.get(), &count, sizeof count);
  ForEachRank([](Attempt&, Rank& rank) {
    if (!rank.running()) return;
    if (!rank.link.connected()) rank.link.TryConnect();
    if (rank.link.connected()) rank.link.HandleEvents();
  });
}

void Supervisor::HandleEnds() {
  ForEachRank([this](Attempt& attempt, Rank& rank) {
    if (!rank.running()) return;
    const std::optional<ProcessExit> exit = rank.process->TryReap();
    if (!exit.has_value()) return;
    rank.process.reset();
    rank.link.Close();
    rank.exit = *exit;
    rank.ended_ms = options_.clock->MonotonicMillis();
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
  ForEachRank([this, now](Attempt& attempt, Rank& rank) {
    if (!rank.running() || rank.killed) return;
    if (now >= lease_until_ms_ + options_.fence_grace_ms) {
      spdlog::error("attempt={} rank={} killed: the lease ran out {} ms ago and it still runs",
                    attempt.key.Name(), rank.number, now - lease_until_ms_);
      options_.metrics->rank_kills_lease.Increment();
      Kill(rank);
    } else if (attempt.kill_at_ms.has_value() && now >= *attempt.kill_at_ms) {
      spdlog::warn("attempt={} rank={} killed: it still ran when the grace for stopping was over",
                   attempt.key.Name(), rank.number);
      options_.metrics->rank_kills_grace.Increment();
      Kill(rank);
    }
  });
}

void Supervisor::Kill(Rank& rank) {
  if (!rank.running() || rank.killed) return;
  rank.killed = true;  // it may take a while, or for ever, if the kernel holds it
  rank.process->Kill();
}

void Supervisor::Relay() {
  if (sink_ == nullptr) return;
  ForEachRank([this](Attempt& attempt, Rank& rank) {
    if (attempt.relayed) RelayRank(attempt, rank);
  });
}

void Supervisor::RelayRank(Attempt& attempt, Rank& rank) {
  // Before the files are read: what an ended process wrote is in them.
  const bool ended = !rank.running();
  RelayReports(attempt, rank);
  RelayLog(attempt, rank);
  if (!ended || rank.exit_sent) return;
  const bool reports_left = rank.reports.unacknowledged_bytes() >= kMaxReportBytesInFlight;
  const bool log_left = rank.log.unacknowledged_bytes() >= kMaxLogBytesInFlight &&
                        options_.clock->MonotonicMillis() < rank.ended_ms + kMaxExitDelayMs;
  if (reports_left || log_left) return;
  rank.exit_sent = true;
  v1::SessionRequest request;
  *request.mutable_rank_exited()->mutable_attempt() = attempt.Ref();
  request.mutable_rank_exited()->set_rank(rank.number);
  request.mutable_rank_exited()->set_exit_code(rank.exit.exit_code);
  request.mutable_rank_exited()->set_signal(rank.exit.signal);
  sink_->Send(std::move(request));
}

void Supervisor::RelayReports(Attempt& attempt, Rank& rank) {
  while (!rank.outbox_broken && rank.reports.unacknowledged_bytes() < kMaxReportBytesInFlight) {
    auto reports = rank.reports.Read(kReportBatchBytes);
    if (!reports.ok()) {
      // Nothing after this place can be told, so the rank must not go on. Its end is told.
      spdlog::error("attempt={} rank={} killed: its reports cannot be read: {}", attempt.key.Name(),
                    rank.number, Message(reports.status()));
      rank.outbox_broken = true;
      Kill(rank);
      return;
    }
    if (reports->empty()) return;
    options_.metrics->reports.Increment(static_cast<double>(reports->size()));
    v1::SessionRequest request;
    *request.mutable_reports()->mutable_attempt() = attempt.Ref();
    request.mutable_reports()->set_rank(rank.number);
    for (v1::RankReport& report : *reports) {
      *request.mutable_reports()->add_reports() = std::move(report);
    }
    sink_->Send(std::move(request));
  }
}

void Supervisor::RelayLog(Attempt& attempt, Rank& rank) {
  while (rank.log.unacknowledged_bytes() < kMaxLogBytesInFlight) {
    auto chunk = rank.log.Read(kLogChunkBytes);
    if (!chunk.ok()) {
      spdlog::warn("attempt={} rank={}: {}", attempt.key.Name(), rank.number,
                   Message(chunk.status()));
      return;
    }
    if (chunk->data.empty()) return;
    options_.metrics->log_bytes.Increment(static_cast<double>(chunk->data.size()));
    v1::SessionRequest request;
    *request.mutable_log()->mutable_attempt() = attempt.Ref();
    request.mutable_log()->set_rank(rank.number);
    request.mutable_log()->set_offset(chunk->offset);
    request.mutable_log()->set_data(std::move(chunk->data));
    sink_->Send(std::move(request));
  }
}

void Supervisor::RemoveForgotten() {
  std::erase_if(attempts_, [](const auto& entry) {
    const Attempt& attempt = entry.second;
    if (!attempt.forgotten) return false;
    for (const auto& [number, rank] : attempt.ranks) {
      if (rank.running()) return false;
    }
    const absl::Status status = attempt.folder.Remove();
    if (!status.ok()) {
      // Kept, and tried again at the next tick and by the next daemon.
      spdlog::warn("attempt={}: {}", attempt.key.Name(), Message(status));
      return false;
    }
    spdlog::info("attempt={} forgotten", attempt.key.Name());
    return true;
  });
}

void Supervisor::UpdateGauges() {
  size_t busy = 0;
  ForEachRank([&busy](Attempt&, Rank& rank) { busy += rank.running() ? 1 : 0; });
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
      if (Rank* rank = FindRank(message.report_ack().attempt(), message.report_ack().rank())) {
        rank->reports.Acknowledge(message.report_ack().seq());
      }
      return;
    case v1::SessionResponse::kLogAck:
      if (Rank* rank = FindRank(message.log_ack().attempt(), message.log_ack().rank())) {
        rank->log.Acknowledge(message.log_ack().offset());
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

void Supervisor::Start(const v1::StartAttempt& message) {
  const std::string name =
      message.attempt().job_id() + "." + std::to_string(message.attempt().attempt());
  if (Attempt* attempt = FindAttempt(message.attempt())) {
    // The order again, because the coordinator has heard nothing yet.
    attempt->relayed = true;
    return;
  }
  const auto key = AttemptKey::Parse(name);
  if (!key.ok()) return RefuseStart(message, key.status());
  const RunFolder folder(options_.runs_path, *key);
  std::vector<int> numbers;
  for (const v1::RankPlacement& placement : message.ranks()) numbers.push_back(placement.rank());
  const absl::Status created = folder.Create(message.run_spec_json(), numbers);
  if (!created.ok()) return RefuseStart(message, created);

  Attempt& attempt = attempts_.try_emplace(*key, *key, folder).first->second;
  attempt.relayed = true;
  for (const v1::RankPlacement& placement : message.ranks()) {
    const int number = placement.rank();
    Rank& rank = attempt.ranks.try_emplace(number, number, folder.Rank(number)).first->second;
    StartRank(attempt, rank, placement, message.kind());
  }
}

void Supervisor::StartRank(Attempt& attempt, Rank& rank, const v1::RankPlacement& placement,
                           const std::string& kind) {
  rank.slot = placement.slot();
  absl::Status status;
  if (const v1::Slot* slot = FindSlot(placement.slot()); slot == nullptr) {
    status = InvalidArgument("slot {} does not exist here; this worker has {}", placement.slot(),
                             options_.slots.size());
  } else {
    DetachedProgram program = {
        .argv = {options_.bin_dir + (kind == "prepare" ? "/moe-prepare" : "/moe-rank"), "--run-dir",
                 attempt.folder.path(), "--rank", std::to_string(rank.number), "--threads",
                 std::to_string(slot->threads())},
        .environment = RankEnvironment(slot->threads()),
        .output_path = rank.folder.log_path()};
    if (kind != "prepare") program.argv.insert(program.argv.end(), {"--host", options_.rank_host});
    ProcessIdentity identity;
    const auto record = [&identity, &rank](pid_t pid) -> absl::Status {
      MOE_ASSIGN_OR_RETURN(identity, IdentifyProcess(pid));
      return rank.folder.WriteProcess(identity);
    };
    const auto pid = StartDetached(program, record);
    status = pid.status();
    if (status.ok()) {
      auto process = RankProcess::OfChild(identity);
      status = process.status();
      if (process.ok()) rank.process = *std::move(process);
    }
  }
  if (status.ok()) {
    spdlog::info("attempt={} rank={} kind={} slot={} started pid={}", attempt.key.Name(),
                 rank.number, kind, placement.slot(), rank.process->identity().pid);
    options_.metrics->rank_starts.Increment();
    rank.link.SetLease(lease_until_ms_);
    return;
  }
  options_.metrics->rank_start_failures.Increment();
  spdlog::error("attempt={} rank={} not started: {}", attempt.key.Name(), rank.number,
                Message(status));
  rank.ended_ms = options_.clock->MonotonicMillis();
  const absl::Status told = rank.folder.WriteFailedReport(
      absl::IsResourceExhausted(status) ? "CAUSE_STORAGE" : "CAUSE_INTERNAL",
      "the worker could not start the rank: " + Message(status), options_.clock->UnixMillis());
  if (!told.ok()) spdlog::error("attempt={}: {}", attempt.key.Name(), Message(told));
}

void Supervisor::RefuseStart(const v1::StartAttempt& message, const absl::Status& why) {
  spdlog::error("attempt={}.{} refused: {}", message.attempt().job_id(),
                message.attempt().attempt(), Message(why));
  options_.metrics->rank_start_failures.Increment();
  if (sink_ == nullptr) return;  // the order is repeated in the next session
  for (const v1::RankPlacement& placement : message.ranks()) {
    v1::SessionRequest reports;
    *reports.mutable_reports()->mutable_attempt() = message.attempt();
    reports.mutable_reports()->set_rank(placement.rank());
    v1::RankReport& report = *reports.mutable_reports()->add_reports();
    report.set_seq(1);
    report.set_unix_millis(options_.clock->UnixMillis());
    report.mutable_failed()->set_cause(v1::CAUSE_STORAGE);
    report.mutable_failed()->set_error("the worker could not make the run folder: " + Message(why));
    sink_->Send(std::move(reports));
    v1::SessionRequest exited;
    *exited.mutable_rank_exited()->mutable_attempt() = message.attempt();
    exited.mutable_rank_exited()->set_rank(placement.rank());
    exited.mutable_rank_exited()->set_exit_code(-1);
    sink_->Send(std::move(exited));
  }
}

void Supervisor::Stop(const v1::StopAttempt& message) {
  Attempt* attempt = FindAttempt(message.attempt());
  if (attempt == nullptr) return;
  const int64_t kill_at_ms = options_.clock->MonotonicMillis() + message.grace_ms();
  // An order that is repeated does not prolong the grace.
  attempt->kill_at_ms = std::min(attempt->kill_at_ms.value_or(kill_at_ms), kill_at_ms);
  spdlog::info("attempt={} told to stop reason={} grace_ms={}", attempt->key.Name(),
               message.reason(), message.grace_ms());
  for (auto& [number, rank] : attempt->ranks) {
    if (rank.running()) rank.link.SetStop(message.reason());
  }
}

void Supervisor::Forget(const v1::ForgetAttempt& message) {
  Attempt* attempt = FindAttempt(message.attempt());
  if (attempt == nullptr) return;
  attempt->forgotten = true;
  attempt->relayed = false;
  for (auto& [number, rank] : attempt->ranks) {
    Kill(rank);
  }
}

void Supervisor::Command(const v1::RankCommand& message) {
  Attempt* attempt = FindAttempt(message.attempt());
  if (attempt == nullptr) return;
  if (message.json().find('\n') != std::string::npos || message.json().size() > kMaxRunLineBytes) {
    spdlog::error("attempt={}: a command of {} bytes that is not one line; dropped",
                  attempt->key.Name(), message.json().size());
    return;
  }
  for (auto& [number, rank] : attempt->ranks) {
    if (rank.running() && (message.rank() == -1 || message.rank() == number)) {
      rank.link.SendCommand(message.json());
    }
  }
}

Supervisor::Attempt* Supervisor::FindAttempt(const v1::AttemptRef& ref) {
  const auto it = attempts_.find(AttemptKey{.job_id = ref.job_id(), .attempt = ref.attempt()});
  return it == attempts_.end() ? nullptr : &it->second;
}

Supervisor::Rank* Supervisor::FindRank(const v1::AttemptRef& ref, int number) {
  Attempt* attempt = FindAttempt(ref);
  if (attempt == nullptr) return nullptr;
  const auto it = attempt->ranks.find(number);
  return it == attempt->ranks.end() ? nullptr : &it->second;
}

void Supervisor::ForEachRank(const std::function<void(Attempt&, Rank&)>& visit) {
  for (auto& [key, attempt] : attempts_) {
    for (auto& [number, rank] : attempt.ranks) visit(attempt, rank);
  }
}

const v1::Slot* Supervisor::FindSlot(int index) const {
  for (const v1::Slot& slot : options_.slots) {
    if (slot.index() == index) return &slot;
  }
  return nullptr;
}

}  // namespace moe::worker
