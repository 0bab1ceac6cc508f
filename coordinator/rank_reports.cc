#include "coordinator/rank_reports.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/crash_point.h"
#include "common/status.h"
#include "coordinator/attempt_outcome.h"
#include "coordinator/job_spec.h"
#include "coordinator/job_state.h"
#include "coordinator/ledger/attempt_ledger.h"

namespace moe::coordinator {
namespace {

// Decisions on artefacts that are repeated to a rank after a reconnection. A rank waits for one at
// a time; the rest is margin.
constexpr int kMaxDecisions = 16;

bool SameBits(double a, double b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

bool HasHeldoutLosses(const v1::StepReport& step) {
  return std::any_of(step.domains().begin(), step.domains().end(),
                     [](const v1::DomainCount& domain) { return domain.has_heldout_loss(); });
}

}  // namespace

Attempt* RankReports::FindOrForget(Turn& turn, const v1::AttemptRef& ref, int32_t rank,
                                   const std::string& worker_id) {
  Attempt* attempt = parts_.attempts->FindOn(ref, rank, worker_id);
  if (attempt == nullptr) {
    parts_.observer->OnStaleMessage();
    parts_.messages->Forget(turn, ref, worker_id);
  }
  return attempt;
}

absl::Status RankReports::OnReports(Turn& turn, const std::string& worker_id,
                                    const v1::ReportBatch& batch) {
  Attempt* attempt = FindOrForget(turn, batch.attempt(), batch.rank(), worker_id);
  if (attempt == nullptr) return absl::OkStatus();
  AttemptRank& rank = attempt->ranks[static_cast<size_t>(batch.rank())];
  for (const v1::RankReport& report : batch.reports()) {
    if (report.seq() <= rank.received_seq) continue;  // sent again after a reconnection
    if (report.seq() != rank.received_seq + 1) {
      return Aborted("reports of {} rank {} jump from {} to {}; register again to learn the cursor",
                     FormatAttempt(attempt->job, attempt->number), batch.rank(), rank.received_seq,
                     report.seq());
    }
    rank.received_seq = report.seq();
    rank.pending.push_back(report);
  }
  Drain(turn, *attempt, batch.rank());
  return absl::OkStatus();
}

absl::Status RankReports::OnLog(Turn& turn, const std::string& worker_id,
                                const v1::LogChunk& chunk) {
  Attempt* attempt = FindOrForget(turn, chunk.attempt(), chunk.rank(), worker_id);
  if (attempt == nullptr) return absl::OkStatus();
  v1::RankRecord& record = attempt->ranks[static_cast<size_t>(chunk.rank())].record;
  const int64_t known = record.log_offset();
  const int64_t end = chunk.offset() + static_cast<int64_t>(chunk.data().size());
  if (chunk.offset() > known) {
    return Aborted("the log of {} rank {} jumps from byte {} to {}; register again",
                   FormatAttempt(attempt->job, attempt->number), chunk.rank(), known,
                   chunk.offset());
  }
  if (end > known) {
    const storage::RankKey key = {attempt->job, attempt->number, chunk.rank()};
    turn.batch.PutLog(key, known, chunk.data().substr(static_cast<size_t>(known - chunk.offset())));
    record.set_log_offset(end);
    parts_.attempts->SaveRank(turn, *attempt, chunk.rank());
    parts_.log_followers->Tell(turn, attempt->job);
  }
  v1::SessionResponse message;
  v1::LogAck& ack = *message.mutable_log_ack();
  *ack.mutable_attempt() = chunk.attempt();
  ack.set_rank(chunk.rank());
  ack.set_offset(record.log_offset());
  parts_.workers->Send(turn, worker_id, std::move(message));
  return absl::OkStatus();
}

void RankReports::OnRankExited(Turn& turn, const std::string& worker_id,
                               const v1::RankExited& exited) {
  Attempt* attempt = FindOrForget(turn, exited.attempt(), exited.rank(), worker_id);
  if (attempt == nullptr) return;
  attempt->ranks[static_cast<size_t>(exited.rank())].exited = exited;
  Drain(turn, *attempt, exited.rank());
}

// ---------------------------------------------------------------------------------------------
// Reports

void RankReports::Drain(Turn& turn, Attempt& attempt, int32_t rank) {
  AttemptRank& state = attempt.ranks[static_cast<size_t>(rank)];
  bool applied = false;
  while (!state.pending.empty() && !state.checking) {
    const v1::RankReport report = std::move(state.pending.front());
    state.pending.pop_front();
    if (report.has_artefact()) {
      CheckArtefact(turn, attempt, rank, report);
      continue;
    }
    Apply(turn, attempt, rank, report);
    state.record.set_report_seq(report.seq());
    applied = true;
  }
  if (applied) parts_.attempts->SaveRank(turn, attempt, rank);
  parts_.messages->Acknowledge(turn, attempt, rank);
  if (state.exited.has_value() && !state.checking && !state.record.gone()) {
    ApplyExit(turn, attempt, rank);
  }
  parts_.ends->Settle(turn, attempt.id());
}

void RankReports::Apply(Turn& turn, Attempt& attempt, int32_t rank, const v1::RankReport& report) {
  // The rank's last word is kept whatever happened to the attempt.
  if (ApplyFinal(attempt, rank, report) || attempt.record.ended()) return;
  v1::JobRecord& job = JobOf(attempt);
  switch (report.event_case()) {
    case v1::RankReport::kStarted:
      return ApplyStarted(turn, attempt, rank, report.started());
    case v1::RankReport::kProgress:
      if (rank == 0) ApplyProgress(turn, attempt, report.progress());
      return;
    case v1::RankReport::kStep:
      if (rank == 0) ApplyStep(turn, attempt, report.step());
      return;
    case v1::RankReport::kWarning:
      if (rank != 0) return;
      parts_.jobs->Note(turn, job, v1::CAUSE_UNSPECIFIED,
                        fmt::format("step {}, {}: {}", report.warning().step(),
                                    report.warning().kind(), report.warning().text()));
      parts_.observer->OnWarning(job.job(), report.warning());
      return;
    case v1::RankReport::kDomainLosses:
      if (rank == 0) ApplyDomainLosses(turn, attempt, report.domain_losses());
      return;
    case v1::RankReport::kCheckpointFailed:
      parts_.jobs->Note(
          turn, job, v1::CAUSE_STORAGE,
          fmt::format("the checkpoint at step {} failed: {}", report.checkpoint_failed().step(),
                      report.checkpoint_failed().error()));
      parts_.observer->OnCheckpointFailed(job.job());
      return;
    case v1::RankReport::kRendezvousPut:
      return ApplyRendezvous(turn, attempt, report.rendezvous_put());
    default:
      spdlog::warn(
          "attempt={} rank={} seq={} is a report of a kind that this coordinator does not know",
          FormatAttempt(attempt.job, attempt.number), rank, report.seq());
      return;
  }
}

bool RankReports::ApplyFinal(Attempt& attempt, int32_t rank, const v1::RankReport& report) {
  v1::RankRecord& record = attempt.ranks[static_cast<size_t>(rank)].record;
  switch (report.event_case()) {
    case v1::RankReport::kFinished:
      *record.mutable_finished() = report.finished();
      return true;
    case v1::RankReport::kFailed:
      *record.mutable_failed() = report.failed();
      break;
    case v1::RankReport::kStopped:
      if (record.has_failed()) return true;  // why it was told to stop
      *record.mutable_stopped() = report.stopped();
      break;
    default:
      return false;
  }
  if (!attempt.first_to_fail.has_value()) attempt.first_to_fail = rank;
  return true;
}

void RankReports::ApplyStarted(Turn& turn, Attempt& attempt, int32_t rank,
                               const v1::RankStarted& started) {
  attempt.ranks[static_cast<size_t>(rank)].record.set_started(true);
  const bool all_up = std::all_of(attempt.ranks.begin(), attempt.ranks.end(),
                                  [](const AttemptRank& r) { return r.record.started(); });
  v1::JobRecord& record = JobOf(attempt);
  if (!all_up || record.job().state() != v1::JOB_STATE_STARTING) return;
  // Training reads its model first, and then reports steps.
  if (TrainSettings(record.job().spec()) == nullptr) {
    Begin(parts_.ledger->Now(turn.monotonic_millis), v1::ACTIVITY_PRODUCTIVE,
          &parts_.ledger->Of(attempt.id()));
    parts_.ledger->Save(turn, attempt.id());
  }
  parts_.jobs->Move(turn, record, JobChange::kRanksUp, v1::CAUSE_UNSPECIFIED,
                    fmt::format("running on {}", started.device()));
}

void RankReports::ApplyProgress(Turn& turn, Attempt& attempt, v1::JobProgress progress) {
  v1::JobRecord& record = JobOf(attempt);
  if (!progress.has_last_step() && record.job().progress().has_last_step()) {
    *progress.mutable_last_step() = record.job().progress().last_step();
  }
  *record.mutable_job()->mutable_progress() = std::move(progress);
  parts_.jobs->Touch(turn, record);
}

void RankReports::ApplyStep(Turn& turn, Attempt& attempt, const v1::StepReport& step) {
  v1::JobRecord& record = JobOf(attempt);
  v1::JobProgress& progress = *record.mutable_job()->mutable_progress();
  // A step that was computed again after a resume must give the numbers of the first time.
  const auto before = parts_.store->FindStep(attempt.job, step.step());
  if (!before.ok()) {
    spdlog::error("job={} step={} cannot be compared with earlier attempts: {}",
                  FormatJobId(attempt.job), step.step(), Message(before.status()));
  } else if (before->has_value() && !SameBits((*before)->loss(), step.loss())) {
    spdlog::warn("job={} step={} loss={:.17g} differs from loss={:.17g} of an earlier attempt",
                 FormatJobId(attempt.job), step.step(), step.loss(), (*before)->loss());
    parts_.observer->OnReplayMismatch(record.job());
  }
  turn.batch.PutStep(attempt.job, step);
  const int64_t steps = TrainSettings(record.job().spec())->steps();  // 0: the rank alone knows
  if (steps == 0 || step.step() < steps) {
    attempt.pace.OnStep(step.step_seconds(), turn.monotonic_millis);
  } else {
    attempt.pace = {};  // no step follows; the last checkpoint takes its time
  }
  const bool again = step.step() <= record.done_steps();
  record.set_done_steps(std::max(record.done_steps(), step.step()));
  BookStep(parts_.ledger->Now(turn.monotonic_millis), step.step_seconds(), again,
           &parts_.ledger->Of(attempt.id()));
  parts_.ledger->Save(turn, attempt.id());
  progress.set_done(step.step());
  if (steps > 0) progress.set_total(steps);
  progress.set_unit("steps");
  progress.set_phase("training");
  *progress.mutable_last_step() = step;
  progress.mutable_last_step()->clear_routing();
  if (HasHeldoutLosses(step)) *progress.mutable_last_validation() = progress.last_step();
  parts_.jobs->Touch(turn, record);
  parts_.observer->OnStep(record.job(), step);
}

void RankReports::ApplyDomainLosses(Turn& turn, Attempt& attempt, const v1::DomainLosses& losses) {
  v1::JobRecord& record = JobOf(attempt);
  const absl::StatusOr<v1::SamplerDecision> decision =
      parts_.sampler->Decide(turn, record, attempt.number, losses);
  if (!decision.ok()) {
    // The rank waits for weights that it will not get.
    v1::RankFailed& failed = *attempt.ranks.front().record.mutable_failed();
    failed.set_cause(v1::CAUSE_BAD_INPUT);
    failed.set_error(fmt::format("no new domain weights: {}", Message(decision.status())));
    if (!attempt.first_to_fail.has_value()) attempt.first_to_fail = 0;
    return;
  }
  CrashPoint("sampler_before_commit");
  turn.After([] { CrashPoint("sampler_after_commit"); });
  parts_.messages->Mixture(turn, attempt, *decision);
  parts_.observer->OnDecision(record.job(), *decision);
}

void RankReports::ApplyRendezvous(Turn& turn, Attempt& attempt, const v1::RendezvousPut& put) {
  turn.batch.PutRendezvous(attempt.job, attempt.number, put.key(), put.value());
  for (const std::string& worker : WorkersOf(attempt)) {
    parts_.messages->Rendezvous(turn, attempt, worker, put.key(), put.value());
  }
}

void RankReports::ApplyExit(Turn& turn, Attempt& attempt, int32_t rank) {
  AttemptRank& state = attempt.ranks[static_cast<size_t>(rank)];
  if (!state.settled() && !attempt.first_to_fail.has_value()) attempt.first_to_fail = rank;
  state.record.set_gone(true);
  state.record.set_gone_message(ExitText(rank, *state.exited));
  parts_.attempts->SaveRank(turn, attempt, rank);
}

// ---------------------------------------------------------------------------------------------
// Artefacts

void RankReports::CheckArtefact(Turn& turn, Attempt& attempt, int32_t rank,
                                const v1::RankReport& report) {
  attempt.ranks[static_cast<size_t>(rank)].checking = true;
  turn.After([this, id = attempt.id(), rank, report] {
    parts_.file_work->Post([this, id, rank, report] {
      const absl::Status checked = parts_.files->Check(report.artefact());
      parts_.queue->Change([this, id, rank, report, checked](Turn& turn) {
        DecideOnArtefact(turn, id, rank, report, checked);
      });
    });
  });
}

void RankReports::DecideOnArtefact(Turn& turn, const AttemptId& id, int32_t rank,
                                   const v1::RankReport& report, const absl::Status& checked) {
  Attempt* attempt = parts_.attempts->Find(id);
  if (attempt == nullptr) return;  // lost meanwhile; its folder is removed as an orphan
  AttemptRank& state = attempt->ranks[static_cast<size_t>(rank)];
  state.checking = false;

  absl::Status decision = parts_.outputs->Refuse(*attempt, report.artefact());
  if (decision.ok()) decision = checked;
  if (decision.ok()) {
    parts_.outputs->Commit(turn, *attempt, report.artefact());
    attempt->saved_millis = turn.monotonic_millis;
    attempt->pace.OnOther(turn.monotonic_millis);
    if (report.artefact().kind() == v1::ARTEFACT_KIND_CHECKPOINT) {
      attempt->checkpoint_seconds = report.artefact().write_seconds();
      BookCheckpoint(parts_.ledger->Now(turn.monotonic_millis), report.artefact().blocked_seconds(),
                     &parts_.ledger->Of(id));
      parts_.ledger->Save(turn, id);
    }
  } else if (!attempt->record.ended()) {
    parts_.jobs->Note(
        turn, JobOf(*attempt), v1::CAUSE_STORAGE,
        fmt::format("{} was refused: {}", report.artefact().path(), Message(decision)));
    if (report.artefact().kind() == v1::ARTEFACT_KIND_CHECKPOINT) {
      parts_.observer->OnCheckpointFailed(JobOf(*attempt).job());
    }
  }
  if (state.record.decisions_size() >= kMaxDecisions) {
    state.record.mutable_decisions()->DeleteSubrange(0, 1);
  }
  v1::ArtefactDecision& stored = *state.record.add_decisions();
  stored.set_path(report.artefact().path());
  stored.set_committed(decision.ok());
  stored.set_error(Message(decision));
  state.record.set_report_seq(report.seq());
  parts_.attempts->SaveRank(turn, *attempt, rank);
  parts_.messages->Decision(turn, *attempt, rank, stored);
  Drain(turn, *attempt, rank);
}

}  // namespace moe::coordinator
