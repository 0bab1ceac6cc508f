#include "coordinator/attempt_table.h"

#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace moe::coordinator {

absl::Status AttemptTable::Load(int64_t monotonic_millis) {
  MOE_RETURN_IF_ERROR(
      store_->ForEachAttempt([&](uint64_t job, int32_t number, v1::AttemptRecord record) {
        Attempt& attempt = Add({job, number}, record.placements(), monotonic_millis);
        attempt.record = std::move(record);
        attempt.ended_millis = monotonic_millis;
        for (const v1::Placement& placement : attempt.record.placements()) {
          workers_->Expect(placement.worker_id(), monotonic_millis);
        }
        const v1::JobRecord* owner = jobs_->Find(job);
        MOE_CHECK(owner != nullptr);  // stored before its first attempt, and never removed
        attempt.pace.Continue(owner->job().progress().last_step().step_seconds(), monotonic_millis);
        if (owner->job().state() == v1::JOB_STATE_STOPPING) {
          const v1::Cause cause = owner->job().cause();
          const bool in_order = cause == v1::CAUSE_PREEMPTED || cause == v1::CAUSE_TIME_LIMIT;
          attempt.stop_reason = in_order ? "drain" : "cancel";
        }
      }));
  return store_->ForEachRank([&](storage::RankKey key, v1::RankRecord record) {
    Attempt* attempt = Find({key.job, key.attempt});
    if (attempt == nullptr) return;
    AttemptRank& rank = attempt->ranks.at(static_cast<size_t>(key.rank));
    rank.received_seq = record.report_seq();
    rank.record = std::move(record);
  });
}

Attempt& AttemptTable::Add(const AttemptId& id, const Placements& placements,
                           int64_t monotonic_millis) {
  Attempt& attempt = attempts_[id];
  attempt.job = id.first;
  attempt.number = id.second;
  attempt.placed_millis = monotonic_millis;
  attempt.saved_millis = monotonic_millis;
  *attempt.record.mutable_placements() = placements;
  for (const v1::Placement& placement : placements) {
    for (const int32_t slot : placement.slots()) {
      AttemptRank& rank = attempt.ranks.emplace_back();
      rank.worker_id = placement.worker_id();
      rank.slot = slot;
      workers_->Hold(rank.worker_id, slot, FormatAttempt(id.first, id.second));
    }
  }
  return attempt;
}

void AttemptTable::Save(Turn& turn, const Attempt& attempt) const {
  turn.batch.PutAttempt(attempt.job, attempt.number, attempt.record);
}

void AttemptTable::SaveRank(Turn& turn, const Attempt& attempt, int32_t rank) const {
  turn.batch.PutRank({attempt.job, attempt.number, rank},
                     attempt.ranks[static_cast<size_t>(rank)].record);
}

void AttemptTable::Remove(Turn& turn, const Attempt& attempt) {
  for (const AttemptRank& rank : attempt.ranks) workers_->Release(rank.worker_id, rank.slot);
  turn.batch.DeleteAttempt(attempt.job, attempt.number);
  attempts_.erase(attempt.id());
}

Attempt* AttemptTable::Find(const AttemptId& id) {
  const auto it = attempts_.find(id);
  return it == attempts_.end() ? nullptr : &it->second;
}

Attempt* AttemptTable::FindOn(const v1::AttemptRef& ref, int32_t rank,
                              const std::string& worker_id) {
  Attempt* attempt = Find({ParseJobId(ref.job_id()).value_or(0), ref.attempt()});
  if (attempt == nullptr) return nullptr;
  if (rank < 0 || rank >= static_cast<int32_t>(attempt->ranks.size())) return nullptr;
  return attempt->ranks[static_cast<size_t>(rank)].worker_id == worker_id ? attempt : nullptr;
}

bool AttemptTable::HasAttemptOf(uint64_t job) const {
  const auto it = attempts_.lower_bound({job, 0});
  return it != attempts_.end() && it->first.first == job;
}

std::vector<AttemptId> AttemptTable::IdsOn(const std::string& worker_id) const {
  std::vector<AttemptId> ids;
  for (const auto& [id, attempt] : attempts_) {
    if (WorkersOf(attempt).contains(worker_id)) ids.push_back(id);
  }
  return ids;
}

}  // namespace moe::coordinator
