#include "coordinator/attempt_ends.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "common/status.h"
#include "coordinator/job_state.h"
#include "coordinator/ledger/attempt_ledger.h"
#include "coordinator/retry_budget.h"

namespace moe::coordinator {

Attempt& AttemptEnds::PresentAttempt(const v1::JobRecord& record) {
  const v1::Job& job = record.job();
  return *parts_.attempts->Find({*ParseJobId(job.job_id()), job.attempt()});
}

void AttemptEnds::StopForGood(Turn& turn, v1::JobRecord& record, const std::string& text) {
  parts_.jobs->Move(turn, record, JobChange::kStopAsked, v1::CAUSE_CANCELLED, text);
  Attempt& attempt = PresentAttempt(record);
  parts_.messages->Stop(turn, attempt, "cancel", options_.stop_grace_ms);
  Settle(turn, attempt.id());
}

void AttemptEnds::StopAtLimit(Turn& turn, v1::JobRecord& record, const std::string& text,
                              int64_t notice_ms) {
  parts_.jobs->Move(turn, record, JobChange::kStopAsked, v1::CAUSE_TIME_LIMIT, text);
  Attempt& attempt = PresentAttempt(record);
  parts_.messages->Stop(turn, attempt, "drain", static_cast<int32_t>(notice_ms));
  Settle(turn, attempt.id());
}

void AttemptEnds::StopHung(Turn& turn, v1::JobRecord& record, int32_t rank,
                           const std::string& text) {
  parts_.jobs->Move(turn, record, JobChange::kStopAsked, v1::CAUSE_HUNG, text);
  Attempt& attempt = PresentAttempt(record);
  if (!attempt.first_to_fail.has_value()) attempt.first_to_fail = rank;
  BookAs(parts_.ledger->Now(turn.monotonic_millis), v1::ACTIVITY_HUNG,
         &parts_.ledger->Of(attempt.id()));
  parts_.ledger->Save(turn, attempt.id());
  // Who does not move does not listen either.
  parts_.messages->Stop(turn, attempt, "cancel", 0);
  Settle(turn, attempt.id());
}

void AttemptEnds::StopForLater(Turn& turn, v1::JobRecord& record, const std::string& text) {
  record.mutable_job()->set_preemptions(record.job().preemptions() + 1);
  parts_.jobs->Move(turn, record, JobChange::kStopAsked, v1::CAUSE_PREEMPTED, text);
  Attempt& attempt = PresentAttempt(record);
  parts_.messages->Stop(turn, attempt, "drain", options_.preempt_grace_ms);
  Settle(turn, attempt.id());
}

void AttemptEnds::StopForGoodAfterAll(Turn& turn, v1::JobRecord& record, const std::string& text) {
  record.mutable_job()->set_cause(v1::CAUSE_CANCELLED);
  record.mutable_job()->set_reason(text);
  parts_.jobs->Note(turn, record, v1::CAUSE_CANCELLED, text);
  parts_.messages->Stop(turn, PresentAttempt(record), "cancel", options_.stop_grace_ms);
}

void AttemptEnds::Settle(Turn& turn, const AttemptId& id) {
  Attempt* attempt = parts_.attempts->Find(id);
  if (attempt == nullptr) return;
  const bool all_gone = std::all_of(attempt->ranks.begin(), attempt->ranks.end(),
                                    [](const AttemptRank& rank) { return rank.record.gone(); });
  if (!attempt->record.ended()) Decide(turn, *attempt, all_gone);
  if (all_gone) Retire(turn, *attempt);
}

void AttemptEnds::Decide(Turn& turn, Attempt& attempt, bool all_gone) {
  const auto& ranks = attempt.ranks;
  const bool all_settled =
      std::all_of(ranks.begin(), ranks.end(), [](const AttemptRank& r) { return r.settled(); });
  const bool all_finished = std::all_of(
      ranks.begin(), ranks.end(), [](const AttemptRank& r) { return r.record.has_finished(); });
  const bool any_failed = std::any_of(ranks.begin(), ranks.end(), [](const AttemptRank& r) {
    return r.settled() && !r.record.has_finished();
  });
  v1::JobRecord& record = parts_.attempts->JobOf(attempt);
  const bool stopping = record.job().state() == v1::JOB_STATE_STOPPING;
  if (stopping && record.job().cause() == v1::CAUSE_CANCELLED) {
    if (!all_gone) return;
    parts_.jobs->Move(turn, record, JobChange::kStopped, v1::CAUSE_CANCELLED,
                      record.job().reason());
    MarkEnded(turn, attempt);
  } else if (all_finished && !parts_.catalog->MadeBy(record.job().job_id()).empty()) {
    const std::string& summary = ranks.front().record.finished().summary();
    parts_.jobs->Move(turn, record, JobChange::kFinished, v1::CAUSE_UNSPECIFIED,
                      summary.empty() ? "finished" : summary);
    MarkEnded(turn, attempt);
  } else if (all_finished) {
    EndBadly(turn, attempt,
             {v1::CAUSE_INTERNAL, "all ranks finished, but no output was committed"});
  } else if (all_settled && stopping) {
    // What a rank says of an end that was asked for counts only where the job itself is to blame.
    const Failure failure = WorstFailure(attempt);
    EndBadly(
        turn, attempt,
        IsOwnFault(failure.cause) ? failure : Failure{record.job().cause(), record.job().reason()});
  } else if (all_settled) {
    EndBadly(turn, attempt, WorstFailure(attempt));
  } else if (any_failed && attempt.stop_reason.empty()) {
    parts_.messages->Stop(turn, attempt, "cancel", options_.stop_grace_ms);
  }
}

void AttemptEnds::EndBadly(Turn& turn, Attempt& attempt, const Failure& failure) {
  v1::JobRecord& record = parts_.attempts->JobOf(attempt);
  v1::Job& job = *record.mutable_job();
  const bool is_clusters = DecideAfter(failure.cause) == AfterCause::kRetryInfrastructure;
  if (is_clusters && attempt.first_to_fail.has_value()) {
    const auto rank = static_cast<size_t>(*attempt.first_to_fail);
    CountFailureOn(attempt.ranks[rank].worker_id, &record);
  }
  if (failure.cause == v1::CAUSE_DAMAGED_CHECKPOINT) parts_.outputs->LeaveDamaged(turn, attempt);
  const Retry retry = CountFailure(failure.cause, options_.retry_backoff, &job);
  if (retry.again) {
    TryAgain(turn, record, failure, retry.delay_ms);
  } else {
    parts_.jobs->Move(turn, record, JobChange::kFailed, failure.cause,
                      retry.limit.empty() || retry.limit == "max_user_retries=0"
                          ? failure.reason
                          : fmt::format("{}; no more attempts: {}", failure.reason, retry.limit));
  }
  MarkEnded(turn, attempt);
}

void AttemptEnds::CountFailureOn(const std::string& worker_id, v1::JobRecord* record) const {
  const int32_t failures = ++(*record->mutable_failures_on_worker())[worker_id];
  auto& avoided = *record->mutable_job()->mutable_avoided_worker_ids();
  const bool is_known = std::find(avoided.begin(), avoided.end(), worker_id) != avoided.end();
  if (failures >= options_.failures_to_avoid_worker && !is_known) *avoided.Add() = worker_id;
}

void AttemptEnds::TryAgain(Turn& turn, v1::JobRecord& record, const Failure& failure,
                           int64_t delay_ms) {
  record.set_retry_unix_millis(turn.unix_millis + delay_ms);
  parts_.jobs->Move(turn, record, JobChange::kAnotherAttempt, failure.cause,
                    delay_ms == 0
                        ? failure.reason
                        : fmt::format("{}; another attempt after {:.1f} s", failure.reason,
                                      static_cast<double>(delay_ms) / 1000.0));
  if (record.job().held()) {
    parts_.jobs->Move(turn, record, JobChange::kHeld, v1::CAUSE_HELD, "held");
  }
}

void AttemptEnds::MarkEnded(Turn& turn, Attempt& attempt) {
  attempt.record.set_ended(true);
  Begin(parts_.ledger->Now(turn.monotonic_millis), v1::ACTIVITY_IDLE,
        &parts_.ledger->Of(attempt.id()));
  parts_.ledger->Save(turn, attempt.id());
  attempt.ended_millis = turn.monotonic_millis;
  parts_.attempts->Save(turn, attempt);
  parts_.doorbell->Ring();  // for the jobs that need this one
  const v1::Job& job = parts_.attempts->JobOf(attempt).job();
  spdlog::info("job={} attempt={} state={} {}", job.job_id(), attempt.number,
               StateName(job.state()), job.reason());
}

void AttemptEnds::Retire(Turn& turn, Attempt& attempt) {
  for (const std::string& worker : WorkersOf(attempt)) {
    parts_.messages->Forget(turn, RefOf(attempt.id()), worker);
  }
  const std::string dir = attempt.record.output_dir();
  std::set<std::string> keep;
  for (const v1::Artefact* artefact : parts_.catalog->MadeBy(FormatJobId(attempt.job))) {
    if (IsInside(artefact->path(), dir)) keep.insert(artefact->path());
  }
  turn.After([files = parts_.files, file_work = parts_.file_work, dir, keep] {
    file_work->Post([files, dir, keep] { files->RemoveOthers(dir, keep); });
  });
  const v1::Job& job = parts_.attempts->JobOf(attempt).job();
  if (IsEnded(job.state())) RemoveWork(turn, job);
  parts_.log_followers->Tell(turn, attempt.job);
  parts_.ledger->Close(turn, attempt.id());
  parts_.attempts->Remove(turn, attempt);
  parts_.doorbell->Ring();
}

void AttemptEnds::RemoveWork(Turn& turn, const v1::Job& job) {
  const std::string dir = WorkDir(options_.artefact_root, job);
  if (dir.empty()) return;
  turn.After([files = parts_.files, file_work = parts_.file_work, dir] {
    file_work->Post([files, dir] { files->RemoveOthers(dir, {}); });
  });
}

int64_t AttemptEnds::Enforce(Turn& turn) {
  int64_t next = std::numeric_limits<int64_t>::max();
  for (auto& [id, attempt] : parts_.attempts->all()) {
    if (!attempt.record.ended()) continue;
    if (turn.monotonic_millis >= attempt.ended_millis + options_.stop_grace_ms) {
      parts_.messages->Stop(turn, attempt, "cancel", 0);
      attempt.ended_millis = turn.monotonic_millis;
    }
    next = std::min(next, attempt.ended_millis + options_.stop_grace_ms);
  }
  return next;
}

}  // namespace moe::coordinator
