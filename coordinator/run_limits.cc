#include "coordinator/run_limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "coordinator/job_spec.h"
#include "coordinator/job_state.h"
#include "coordinator/turn.h"

namespace moe::coordinator {
namespace {

constexpr int64_t kShortestNoticeMillis = 10'000;

bool Runs(const Attempt& attempt, const v1::Job& job) {
  return !attempt.record.ended() && attempt.stop_reason.empty() &&
         (job.state() == v1::JOB_STATE_STARTING || job.state() == v1::JOB_STATE_RUNNING);
}

constexpr char kWaiting[] = "waits for the other ranks";

// A rank that waits, rather than one whose process stopped after it last said so.
bool Waits(const AttemptRank& rank) {
  return rank.pulse.phase() == kWaiting && !rank.pulse.silent();
}

// What a stopped process said last may be long past: steps are shorter than what is said of them.
bool IsInStep(const v1::RankPulse& pulse) {
  return pulse.phase() == "step" || pulse.phase() == kWaiting || pulse.silent();
}

// Between the order to stop and the kill: for a step and a checkpoint.
int64_t NoticeOf(const Attempt& attempt, const v1::JobSpec& spec) {
  if (spec.has_time_limit_notice_seconds()) return spec.time_limit_notice_seconds() * 1000;
  const double needed = 2 * (attempt.checkpoint_seconds + attempt.pace.MedianSeconds());
  const int64_t notice = std::max(kShortestNoticeMillis, static_cast<int64_t>(needed * 1000));
  return std::min(notice, spec.time_limit_seconds() * 1000 / 2);
}

// Who keeps the others waiting.
int32_t Slowest(const Attempt& attempt) {
  const auto rank = std::min_element(
      attempt.ranks.begin(), attempt.ranks.end(), [](const AttemptRank& a, const AttemptRank& b) {
        const auto order = [](const AttemptRank& r) {
          return std::tuple(!r.pulse.silent(), r.pulse.done(), Waits(r), -r.pulse.for_millis());
        };
        return order(a) < order(b);
      });
  return static_cast<int32_t>(rank - attempt.ranks.begin());
}

}  // namespace

void RunLimits::OnPulses(const Turn& turn, const std::string& worker_id,
                         const v1::RankPulses& pulses) {
  for (const v1::RankPulse& pulse : pulses.pulses()) {
    Attempt* attempt = parts_.attempts->FindOn(pulse.attempt(), pulse.rank(), worker_id);
    if (attempt == nullptr) continue;  // it is over; its worker will hear of that
    attempt->ranks[static_cast<size_t>(pulse.rank())].pulse = pulse;
    // What is no step takes the time that it takes.
    if (pulse.rank() == 0 && !IsInStep(pulse)) {
      attempt->pace.OnOther(turn.monotonic_millis);
    }
  }
}

int64_t RunLimits::NoticeMillis(const Attempt& attempt, const v1::JobRecord& record,
                                int64_t now) const {
  const v1::JobSpec& spec = record.job().spec();
  if (spec.time_limit_seconds() == 0) return kNever;
  const int64_t left = spec.time_limit_seconds() * 1000 - parts_.ledger->HeldMillis(record, now);
  return now + left - NoticeOf(attempt, spec);
}

int64_t RunLimits::HungMillis(const Attempt& attempt) {
  const bool all_in_step =
      std::all_of(attempt.ranks.begin(), attempt.ranks.end(),
                  [](const AttemptRank& rank) { return IsInStep(rank.pulse); });
  // Where all wait for each other it is the network: the time limit of their operation names it.
  const bool all_wait = std::all_of(attempt.ranks.begin(), attempt.ranks.end(), Waits);
  return all_in_step && !all_wait ? attempt.pace.DeadlineMillis().value_or(kNever) : kNever;
}

int64_t RunLimits::Enforce(Turn& turn) {
  const int64_t now = turn.monotonic_millis;
  int64_t next = kNever;
  std::vector<AttemptId> late, hung;
  for (const auto& [id, attempt] : parts_.attempts->all()) {
    const v1::JobRecord& record = parts_.attempts->JobOf(attempt);
    if (!Runs(attempt, record.job())) continue;
    const int64_t notice = NoticeMillis(attempt, record, now);
    const int64_t silent = HungMillis(attempt);
    if (now >= notice) {
      late.push_back(id);
    } else if (now >= silent) {
      hung.push_back(id);
    } else {
      next = std::min({next, notice, silent});
    }
  }
  // Ending an attempt may remove it.
  for (const AttemptId& id : late) {
    EndAtLimit(turn, parts_.attempts->JobOf(*parts_.attempts->Find(id)));
  }
  for (const AttemptId& id : hung) {
    const Attempt& attempt = *parts_.attempts->Find(id);
    EndHung(turn, attempt, parts_.attempts->JobOf(attempt));
  }
  return next;
}

void RunLimits::EndAtLimit(Turn& turn, v1::JobRecord& record) {
  const v1::JobSpec& spec = record.job().spec();
  const int64_t held = parts_.ledger->HeldMillis(record, turn.monotonic_millis);
  const int64_t left = std::max<int64_t>(0, spec.time_limit_seconds() * 1000 - held);
  parts_.ends->StopAtLimit(
      turn, record,
      fmt::format("has held slots for {:.0f} s of its time_limit_seconds={}{}",
                  static_cast<double>(held) / 1000, spec.time_limit_seconds(),
                  TrainSettings(spec) != nullptr ? "; what it has done is in its checkpoints" : ""),
      left);
}

void RunLimits::EndHung(Turn& turn, const Attempt& attempt, v1::JobRecord& record) {
  const int32_t rank = Slowest(attempt);
  const AttemptRank& state = attempt.ranks[static_cast<size_t>(rank)];
  const int64_t silent = turn.monotonic_millis - *attempt.pace.last_millis();
  parts_.ends->StopHung(
      turn, record, rank,
      fmt::format("rank {} on {} stands still, {}: nothing was reported for {:.1f} s, the median "
                  "step takes {:.2f} s",
                  rank, state.worker_id,
                  state.pulse.silent() ? "its process does not run"
                                       : fmt::format("after step {} in '{}'", state.pulse.done(),
                                                     state.pulse.phase()),
                  static_cast<double>(silent) / 1000, attempt.pace.MedianSeconds()));
}

}  // namespace moe::coordinator
