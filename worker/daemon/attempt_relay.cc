#include "worker/daemon/attempt_relay.h"

#include <spdlog/spdlog.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "common/status.h"

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

v1::SessionRequest ExitOf(const v1::AttemptRef& attempt, int rank, const ProcessExit& exit) {
  v1::SessionRequest request;
  *request.mutable_rank_exited()->mutable_attempt() = attempt;
  request.mutable_rank_exited()->set_rank(rank);
  request.mutable_rank_exited()->set_exit_code(exit.exit_code);
  request.mutable_rank_exited()->set_signal(exit.signal);
  return request;
}

}  // namespace

void AttemptRelay::Begin(std::shared_ptr<SessionSink> sink, const v1::Registered& registered) {
  sink_ = std::move(sink);
  for (auto& [key, attempt] : attempts_->all()) {
    attempt.relayed = false;
    for (auto& [number, rank] : attempt.ranks) {
      rank.exit_sent = false;
      rank.news = true;
      rank.reports.Rewind(0);
      rank.log.Rewind(0);
      rank.link.RepeatPulse();
    }
  }
  for (const v1::AttemptCursor& cursor : registered.cursors()) {
    Attempt* attempt = attempts_->Find(cursor.attempt());
    if (attempt == nullptr) continue;
    attempt->relayed = true;
    Rank* rank = attempts_->FindRank(cursor.attempt(), cursor.rank());
    if (rank == nullptr) continue;
    rank->reports.Rewind(cursor.report_seq());
    rank->log.Rewind(cursor.log_offset());
  }
}

void AttemptRelay::Send(v1::SessionRequest message) {
  if (sink_ != nullptr) sink_->Send(std::move(message));
}

void AttemptRelay::Refuse(const v1::StartAttempt& order, const std::string& why) {
  for (const v1::RankPlacement& placement : order.ranks()) {
    v1::SessionRequest reports;
    *reports.mutable_reports()->mutable_attempt() = order.attempt();
    reports.mutable_reports()->set_rank(placement.rank());
    v1::RankReport& report = *reports.mutable_reports()->add_reports();
    report.set_seq(1);
    report.set_unix_millis(clock_->UnixMillis());
    report.mutable_failed()->set_cause(v1::CAUSE_STORAGE);
    report.mutable_failed()->set_error("the worker could not make the run folder: " + why);
    Send(std::move(reports));
    Send(ExitOf(order.attempt(), placement.rank(), ProcessExit{}));
  }
}

void AttemptRelay::Relay() {
  if (sink_ == nullptr) return;
  attempts_->ForEachRank([this](Attempt& attempt, Rank& rank) {
    if (!attempt.relayed || !rank.news) return;
    rank.news = false;
    RelayRank(attempt, rank);
  });
  RelayPulses();
}

void AttemptRelay::RelayPulses() {
  v1::SessionRequest request;
  const int64_t now = clock_->MonotonicMillis();
  attempts_->ForEachRank([&request, now](Attempt& attempt, Rank& rank) {
    if (!attempt.relayed || !rank.running()) return;
    std::optional<RankLink::Pulse> said = rank.link.TakePulse(now);
    if (!said.has_value()) return;
    v1::RankPulse& pulse = *request.mutable_pulses()->add_pulses();
    *pulse.mutable_attempt() = attempt.Ref();
    pulse.set_rank(rank.number);
    pulse.set_done(said->done);
    pulse.set_phase(std::move(said->phase));
    pulse.set_for_millis(now - said->since_ms);
    pulse.set_silent(said->silent);
  });
  if (request.has_pulses()) Send(std::move(request));
}

void AttemptRelay::RelayRank(Attempt& attempt, Rank& rank) {
  // Before the files are read: what an ended process wrote is in them.
  const bool ended = !rank.running();
  RelayReports(attempt, rank);
  RelayLog(attempt, rank);
  if (!ended || rank.exit_sent) return;
  const bool reports_left = rank.reports.unacknowledged_bytes() >= kMaxReportBytesInFlight;
  const bool log_left = rank.log.unacknowledged_bytes() >= kMaxLogBytesInFlight &&
                        clock_->MonotonicMillis() < rank.ended_ms + kMaxExitDelayMs;
  if (reports_left || log_left) return;
  rank.exit_sent = true;
  Send(ExitOf(attempt.Ref(), rank.number, rank.exit));
}

void AttemptRelay::RelayReports(Attempt& attempt, Rank& rank) {
  while (!rank.outbox_broken && rank.reports.unacknowledged_bytes() < kMaxReportBytesInFlight) {
    auto reports = rank.reports.Read(kReportBatchBytes);
    if (!reports.ok()) {
      // Nothing after this place can be told, so the rank must not go on. Its end is told.
      spdlog::error("attempt={} rank={} killed: its reports cannot be read: {}", attempt.key.Name(),
                    rank.number, Message(reports.status()));
      rank.outbox_broken = true;
      rank.Kill();
      return;
    }
    if (reports->empty()) return;
    metrics_->reports.Increment(static_cast<double>(reports->size()));
    v1::SessionRequest request;
    *request.mutable_reports()->mutable_attempt() = attempt.Ref();
    request.mutable_reports()->set_rank(rank.number);
    for (v1::RankReport& report : *reports) {
      *request.mutable_reports()->add_reports() = std::move(report);
    }
    Send(std::move(request));
  }
}

void AttemptRelay::RelayLog(Attempt& attempt, Rank& rank) {
  while (rank.log.unacknowledged_bytes() < kMaxLogBytesInFlight) {
    auto chunk = rank.log.Read(kLogChunkBytes);
    if (!chunk.ok()) {
      spdlog::warn("attempt={} rank={}: {}", attempt.key.Name(), rank.number,
                   Message(chunk.status()));
      return;
    }
    if (chunk->data.empty()) return;
    metrics_->log_bytes.Increment(static_cast<double>(chunk->data.size()));
    v1::SessionRequest request;
    *request.mutable_log()->mutable_attempt() = attempt.Ref();
    request.mutable_log()->set_rank(rank.number);
    request.mutable_log()->set_offset(chunk->offset);
    request.mutable_log()->set_data(std::move(chunk->data));
    Send(std::move(request));
  }
}

}  // namespace moe::worker
