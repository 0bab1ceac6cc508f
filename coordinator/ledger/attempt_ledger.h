// Where the time of one attempt goes. Every millisecond between its placement and the moment when
// its slots are free again is booked under exactly one activity: whatever is done here, the parts
// add up to booked_unix_millis - placed_unix_millis. Pure.
//
// `now` is milliseconds since the Unix epoch on a clock that never goes back; an earlier one than
// before books nothing.
#pragma once

#include <cstdint>

#include "moe/v1/goodput.pb.h"
#include "moe/v1/record.pb.h"

namespace moe::coordinator {

v1::AttemptLedger OpenLedger(int64_t now, int32_t slots, bool resumes);

// Up to now it did what it did; from now on it does `next`.
void Begin(int64_t now, v1::Activity next, v1::AttemptLedger* ledger);
// What is not booked yet was `activity`.
void BookAs(int64_t now, v1::Activity activity, v1::AttemptLedger* ledger);
// A step of so many seconds has ended now, done for the first time or once more. What is not booked
// and longer than the step goes to what it did before where that was no step.
void BookStep(int64_t now, double step_seconds, bool again, v1::AttemptLedger* ledger);
// The work stood still for so long while a checkpoint was written, some time before now.
void BookCheckpoint(int64_t now, double blocked_seconds, v1::AttemptLedger* ledger);
// The slots are free.
void Close(int64_t now, v1::AttemptLedger* ledger);

// From the placement to what is booked.
int64_t HeldMillis(const v1::AttemptLedger& ledger);
// The ledger as it would be if everything up to now was booked: of one that is not closed.
v1::AttemptLedger At(int64_t now, v1::AttemptLedger ledger);

// By use, times the slots. Adds to `sum`.
void AddSlotSeconds(const v1::AttemptLedger& ledger, v1::SlotSeconds* sum);
void AddSlotSeconds(const v1::SlotSeconds& part, v1::SlotSeconds* sum);
// All of them but `queued`.
double HeldSlotSeconds(const v1::SlotSeconds& time);

}  // namespace moe::coordinator
