#include "tests/simulation/book_promises.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/audit/audit_chain.h"
#include "coordinator/job_state.h"
#include "coordinator/ledger/attempt_ledger.h"

namespace moe::simulation {

using coordinator::FormatAttempt;

namespace {

// Sums of milliseconds, as seconds in floating point.
constexpr double kRoundingSeconds = 0.01;

}  // namespace

void BookPromises::OnStart(const SimCoordinator::Core& core) {
  CheckAudit(core);
  counted_millis_ = core.clock->MonotonicMillis();
  slot_seconds_ = core.supervisor->ledger().OfAll(counted_millis_).total_slot_seconds();
  slots_ = 0;
  for (const auto& [id, attempt] : core.supervisor->attempts().all()) {
    slots_ += static_cast<int64_t>(attempt.ranks.size());
  }
}

void BookPromises::AfterTurn(const SimCoordinator::Core& core) {
  for (const auto& [id, attempt] : core.supervisor->attempts().all()) {
    CheckLedger(FormatAttempt(id.first, id.second), core.supervisor->ledger().Of(id));
  }
  CheckSlotSeconds(core);
}

// Every slot that is there or held is booked, all the time, as something.
void BookPromises::CheckSlotSeconds(const SimCoordinator::Core& core) {
  const int64_t now = core.clock->MonotonicMillis();
  slot_seconds_ += static_cast<double>(slots_ * (now - counted_millis_)) / 1000;
  counted_millis_ = now;
  const double booked = core.supervisor->ledger().OfAll(now).total_slot_seconds();
  if (std::abs(booked - slot_seconds_) > kRoundingSeconds) {
    world_->Violate("{:.3f} slot-seconds are booked, of {:.3f} that there were", booked,
                    slot_seconds_);
  }
  int64_t held = 0;
  for (const auto& [id, attempt] : core.supervisor->attempts().all()) {
    held += static_cast<int64_t>(attempt.ranks.size());
  }
  slots_ = std::max(held, core.workers->Count(now).slots);
}

void BookPromises::CheckLedger(const std::string& attempt, const v1::AttemptLedger& ledger) {
  int64_t sum = 0;
  for (const int64_t millis : ledger.millis()) {
    if (millis < 0) world_->Violate("the ledger of {} has {} ms of something", attempt, millis);
    sum += millis;
  }
  if (sum != coordinator::HeldMillis(ledger)) {
    world_->Violate("the ledger of {} has {} ms in parts, and {} ms in all", attempt, sum,
                    coordinator::HeldMillis(ledger));
  }
}

void BookPromises::AtEnd(const SimCoordinator::Core& core) {
  CheckAudit(core);
  for (uint64_t number = 1; core.jobs->Find(number) != nullptr; ++number) {
    CheckJob(core, number, *core.jobs->Find(number));
  }
}

void BookPromises::CheckJob(const SimCoordinator::Core& core, uint64_t number,
                            const v1::JobRecord& record) {
  const auto ledgers = core.store->ListLedgers(number);
  if (!ledgers.ok()) return world_->Violate("{}", ledgers.status().ToString());
  int64_t held = 0;
  for (const auto& [attempt, ledger] : *ledgers) {
    const std::string name = FormatAttempt(number, attempt);
    CheckLedger(name, ledger);
    if (!ledger.closed()) world_->Violate("the ledger of {}, which is over, is open", name);
    held += coordinator::HeldMillis(ledger);
  }
  if (static_cast<int32_t>(ledgers->size()) != record.job().attempt()) {
    world_->Violate("job {} had {} attempts, of which {} have a ledger", record.job().job_id(),
                    record.job().attempt(), ledgers->size());
  }
  if (held != record.held_millis()) {
    world_->Violate("job {} held slots for {} ms, its attempts for {} ms", record.job().job_id(),
                    record.held_millis(), held);
  }
}

void BookPromises::CheckAudit(const SimCoordinator::Core& core) {
  const auto entries = core.store->ListAudit(0, std::numeric_limits<int>::max());
  if (!entries.ok()) return world_->Violate("{}", entries.status().ToString());
  AuditChain chain;
  std::map<std::string, int> recorded;
  for (size_t i = 0; i < entries->size(); ++i) {
    const v1::AuditEntry& entry = (*entries)[i];
    if (const absl::Status status = chain.Follow(entry); !status.ok()) {
      return world_->Violate("the audit journal is broken: {}", status.ToString());
    }
    if (i == hashes_.size()) hashes_.push_back(entry.hash());
    if (hashes_[i] != entry.hash()) {
      world_->Violate("entry {} of the audit journal is another one", entry.seq());
    }
    if (entry.code() == "OK") ++recorded[entry.method() + " " + entry.target()];
  }
  if (entries->size() < hashes_.size()) {
    world_->Violate("the audit journal had {} entries and has {}", hashes_.size(), entries->size());
  }
  for (const auto& [what, times] : answered_) {
    if (recorded[what] < times) {
      world_->Violate("{} was answered {} times, and is in the audit journal {} times", what, times,
                      recorded[what]);
    }
  }
}

}  // namespace moe::simulation
