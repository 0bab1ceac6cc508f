#include "coordinator/ledger/attempt_ledger.h"

#include <algorithm>

namespace moe::coordinator {
namespace {

int64_t MillisFrom(double seconds) { return static_cast<int64_t>(std::max(0.0, seconds) * 1000); }

int64_t Booked(const v1::AttemptLedger& ledger, v1::Activity activity) {
  return activity < ledger.millis_size() ? ledger.millis(activity) : 0;
}

void Add(v1::Activity activity, int64_t millis, v1::AttemptLedger* ledger) {
  while (ledger->millis_size() <= v1::Activity_MAX) ledger->add_millis(0);
  ledger->set_millis(activity, ledger->millis(activity) + millis);
}

// Books at most `millis` of what is not booked.
void Book(int64_t millis, v1::Activity activity, int64_t now, v1::AttemptLedger* ledger) {
  const int64_t unbooked = std::max<int64_t>(0, now - ledger->booked_unix_millis());
  const int64_t booked = std::clamp<int64_t>(millis, 0, unbooked);
  Add(activity, booked, ledger);
  ledger->set_booked_unix_millis(ledger->booked_unix_millis() + booked);
}

bool IsStep(v1::Activity activity) {
  return activity == v1::ACTIVITY_PRODUCTIVE || activity == v1::ACTIVITY_RECOMPUTED;
}

}  // namespace

v1::AttemptLedger OpenLedger(int64_t now, int32_t slots, bool resumes) {
  v1::AttemptLedger ledger;
  ledger.set_placed_unix_millis(now);
  ledger.set_booked_unix_millis(now);
  ledger.set_slots(slots);
  ledger.set_activity(resumes ? v1::ACTIVITY_RESTORING : v1::ACTIVITY_STARTING);
  return ledger;
}

void BookAs(int64_t now, v1::Activity activity, v1::AttemptLedger* ledger) {
  if (ledger->closed()) return;
  Book(now - ledger->booked_unix_millis(), activity, now, ledger);
}

void Begin(int64_t now, v1::Activity next, v1::AttemptLedger* ledger) {
  BookAs(now, ledger->activity(), ledger);
  if (!ledger->closed()) ledger->set_activity(next);
}

void BookStep(int64_t now, double step_seconds, bool again, v1::AttemptLedger* ledger) {
  if (ledger->closed()) return;
  const v1::Activity step = again ? v1::ACTIVITY_RECOMPUTED : v1::ACTIVITY_PRODUCTIVE;
  const v1::Activity before = IsStep(ledger->activity()) ? step : ledger->activity();
  const int64_t unbooked = now - ledger->booked_unix_millis();
  Book(std::max<int64_t>(0, unbooked - MillisFrom(step_seconds)), before, now, ledger);
  BookAs(now, step, ledger);
  ledger->set_activity(step);
}

void BookCheckpoint(int64_t now, double blocked_seconds, v1::AttemptLedger* ledger) {
  if (ledger->closed()) return;
  BookAs(now, ledger->activity(), ledger);
  // It was booked as the steps that it stood between.
  int64_t left = MillisFrom(blocked_seconds);
  for (const v1::Activity from : {ledger->activity(), v1::ACTIVITY_PRODUCTIVE}) {
    const int64_t moved = std::min(left, Booked(*ledger, from));
    Add(from, -moved, ledger);
    Add(v1::ACTIVITY_CHECKPOINTING, moved, ledger);
    left -= moved;
  }
}

void Close(int64_t now, v1::AttemptLedger* ledger) {
  BookAs(now, ledger->activity(), ledger);
  ledger->set_closed(true);
}

int64_t HeldMillis(const v1::AttemptLedger& ledger) {
  return ledger.booked_unix_millis() - ledger.placed_unix_millis();
}

v1::AttemptLedger At(int64_t now, v1::AttemptLedger ledger) {
  BookAs(now, ledger.activity(), &ledger);
  return ledger;
}

void AddSlotSeconds(const v1::AttemptLedger& ledger, v1::SlotSeconds* sum) {
  const double slots = ledger.slots();
  const auto of = [&](v1::Activity activity) {
    return slots * static_cast<double>(Booked(ledger, activity)) / 1000;
  };
  v1::SlotSeconds part;
  part.set_queued(slots * static_cast<double>(ledger.queued_millis()) / 1000);
  part.set_starting(of(v1::ACTIVITY_STARTING));
  part.set_restoring(of(v1::ACTIVITY_RESTORING));
  part.set_productive(of(v1::ACTIVITY_PRODUCTIVE));
  part.set_recomputed(of(v1::ACTIVITY_RECOMPUTED));
  part.set_checkpointing(of(v1::ACTIVITY_CHECKPOINTING));
  part.set_hung(of(v1::ACTIVITY_HUNG));
  part.set_idle(of(v1::ACTIVITY_IDLE));
  AddSlotSeconds(part, sum);
}

void AddSlotSeconds(const v1::SlotSeconds& part, v1::SlotSeconds* sum) {
  sum->set_queued(sum->queued() + part.queued());
  sum->set_starting(sum->starting() + part.starting());
  sum->set_restoring(sum->restoring() + part.restoring());
  sum->set_productive(sum->productive() + part.productive());
  sum->set_recomputed(sum->recomputed() + part.recomputed());
  sum->set_checkpointing(sum->checkpointing() + part.checkpointing());
  sum->set_hung(sum->hung() + part.hung());
  sum->set_idle(sum->idle() + part.idle());
}

double HeldSlotSeconds(const v1::SlotSeconds& time) {
  return time.starting() + time.restoring() + time.productive() + time.recomputed() +
         time.checkpointing() + time.hung() + time.idle();
}

}  // namespace moe::coordinator
