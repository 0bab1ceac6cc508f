#include "coordinator/ledger/slot_ledger.h"

#include <algorithm>

#include "common/status.h"
#include "coordinator/ledger/attempt_ledger.h"

namespace moe::coordinator {

absl::Status SlotLedger::Load(int64_t unix_millis, int64_t monotonic_millis) {
  epoch_millis_ = unix_millis - monotonic_millis;
  counted_millis_ = monotonic_millis;
  return store_->ForEachLedger([&](uint64_t job, int32_t attempt, v1::AttemptLedger ledger) {
    if (!ledger.closed()) {
      // A clock that was set back meanwhile must not lose time that was booked.
      epoch_millis_ = std::max(epoch_millis_, ledger.booked_unix_millis() - monotonic_millis);
      const double now = static_cast<double>(unix_millis) / 1000;
      usage_.Add(KeyOf(job), ledger.slots(),
                 static_cast<double>(ledger.placed_unix_millis()) / 1000, now);
      usage_.Change(KeyOf(job), ledger.slots(), now);
      held_ += ledger.slots();
      open_[{job, attempt}] = std::move(ledger);
      return;
    }
    AddSlotSeconds(ledger, &closed_[ledger.queue()]);
    usage_.Add(KeyOf(job), ledger.slots(), static_cast<double>(ledger.placed_unix_millis()) / 1000,
               static_cast<double>(ledger.booked_unix_millis()) / 1000);
  });
}

QueueUsage::Key SlotLedger::KeyOf(uint64_t job) const {
  const v1::Job& of = jobs_->Find(job)->job();
  return {queues_->QueueOf(of.spec().queue()), of.user()};
}

void SlotLedger::Adopt(const AttemptId& id, int32_t slots, int64_t monotonic_millis) {
  const auto [it, is_new] = open_.try_emplace(id);
  if (!is_new) return;
  it->second = OpenLedger(Now(monotonic_millis), slots, /*resumes=*/false);
  it->second.set_activity(v1::ACTIVITY_PRODUCTIVE);
  it->second.set_queue(QueueName(id.first));
  usage_.Change(KeyOf(id.first), slots, Seconds(monotonic_millis));
  held_ += slots;
}

const std::string& SlotLedger::QueueName(uint64_t job) const {
  return queues_->rules(queues_->QueueOf(jobs_->Find(job)->job().spec().queue())).name;
}

void SlotLedger::Open(Turn& turn, const AttemptId& id, int32_t slots, bool resumes) {
  const v1::JobRecord& record = *jobs_->Find(id.first);
  v1::AttemptLedger& ledger = open_[id];
  ledger = OpenLedger(Now(turn.monotonic_millis), slots, resumes);
  ledger.set_queue(QueueName(id.first));
  ledger.set_queued_millis(std::max<int64_t>(0, turn.unix_millis - record.queued_unix_millis()));
  usage_.Change(KeyOf(id.first), slots, Seconds(turn.monotonic_millis));
  CountSlots(slots_, turn.monotonic_millis);
  held_ += slots;
  Save(turn, id);
}

void SlotLedger::Save(Turn& turn, const AttemptId& id) {
  turn.batch.PutLedger(id.first, id.second, open_.at(id));
}

void SlotLedger::Close(Turn& turn, const AttemptId& id) {
  v1::AttemptLedger& ledger = open_.at(id);
  coordinator::Close(Now(turn.monotonic_millis), &ledger);
  Save(turn, id);
  v1::JobRecord& record = *jobs_->Find(id.first);
  record.set_held_millis(record.held_millis() + coordinator::HeldMillis(ledger));
  turn.batch.PutJob(id.first, record);  // nothing that anybody is shown: no new revision
  AddSlotSeconds(ledger, &closed_[ledger.queue()]);
  usage_.Change(KeyOf(id.first), -ledger.slots(), Seconds(turn.monotonic_millis));
  CountSlots(slots_, turn.monotonic_millis);
  held_ -= ledger.slots();
  open_.erase(id);
}

int64_t SlotLedger::HeldMillis(const v1::JobRecord& record, int64_t monotonic_millis) const {
  int64_t held = record.held_millis();
  const auto it = open_.find({*ParseJobId(record.job().job_id()), record.job().attempt()});
  if (it != open_.end()) held += Now(monotonic_millis) - it->second.placed_unix_millis();
  return held;
}

void SlotLedger::CountSlots(int64_t slots, int64_t monotonic_millis) {
  const double seconds = static_cast<double>(monotonic_millis - counted_millis_) / 1000;
  free_slot_seconds_ += static_cast<double>(std::max<int64_t>(0, slots_ - held_)) * seconds;
  counted_millis_ = monotonic_millis;
  slots_ = slots;
}

absl::StatusOr<v1::GetGoodputResponse> SlotLedger::OfJob(const v1::JobRecord& record,
                                                         int64_t monotonic_millis) const {
  const uint64_t job = *ParseJobId(record.job().job_id());
  MOE_ASSIGN_OR_RETURN(const auto ledgers, store_->ListLedgers(job));
  v1::GetGoodputResponse response;
  for (const auto& [number, stored] : ledgers) {
    const auto open = open_.find({job, number});
    const v1::AttemptLedger ledger =
        open == open_.end() ? stored : At(Now(monotonic_millis), open->second);
    v1::AttemptGoodput& attempt = *response.add_attempts();
    attempt.set_attempt(number);
    attempt.set_slots(ledger.slots());
    attempt.set_held_seconds(static_cast<double>(coordinator::HeldMillis(ledger)) / 1000);
    AddSlotSeconds(ledger, attempt.mutable_slot_seconds());
    AddSlotSeconds(ledger, response.mutable_slot_seconds());
  }
  response.set_total_slot_seconds(HeldSlotSeconds(response.slot_seconds()));
  return response;
}

v1::GetGoodputResponse SlotLedger::OfAll(int64_t monotonic_millis) const {
  std::map<std::string, v1::SlotSeconds> by_queue = closed_;
  for (const auto& [id, ledger] : open_) {
    AddSlotSeconds(At(Now(monotonic_millis), ledger), &by_queue[ledger.queue()]);
  }
  v1::GetGoodputResponse response;
  v1::SlotSeconds& all = *response.mutable_slot_seconds();
  for (const auto& [queue, time] : by_queue) {
    v1::QueueGoodput& part = *response.add_queues();
    part.set_queue(queue);
    *part.mutable_slot_seconds() = time;
    AddSlotSeconds(time, &all);
  }
  const double since = static_cast<double>(monotonic_millis - counted_millis_) / 1000;
  all.set_idle(all.idle() + free_slot_seconds_ +
               static_cast<double>(std::max<int64_t>(0, slots_ - held_)) * since);
  response.set_total_slot_seconds(HeldSlotSeconds(all));
  return response;
}

}  // namespace moe::coordinator
