// Ends attempts that ran for too long, and such that stand still. Belongs to the loop's thread
// (coordinator/turn.h).
//
// A job with a time limit is told to stop some time before it, so that training can write a
// checkpoint; then it has failed for good. How long before, if the job does not say: what its
// checkpoints were measured to take.
//
// A training attempt stands still when nothing has been reported for several times its median step.
// Only attempts whose ranks say what they are at (RankPulse) are judged, and not while they write a
// checkpoint or measure losses on held-out text. The rank that is named is the one that has done
// least, and among equals one that does not wait for others and has been at it for longest; before
// all others one whose process says nothing any more. The attempt is killed and tried again.
#pragma once

#include <cstdint>

#include "coordinator/attempt_ends.h"
#include "coordinator/attempt_table.h"
#include "coordinator/job_table.h"
#include "coordinator/ledger/slot_ledger.h"
#include "coordinator/turn.h"
#include "moe/v1/worker_service.pb.h"

namespace moe::coordinator {

class RunLimits {
 public:
  struct Parts {
    AttemptTable* attempts = nullptr;
    AttemptEnds* ends = nullptr;
    const SlotLedger* ledger = nullptr;
  };
  explicit RunLimits(Parts parts) : parts_(parts) {}

  // How far the ranks on a worker are.
  void OnPulses(const Turn& turn, const std::string& worker_id, const v1::RankPulses& pulses);

  // Ends what is due. Returns when something is due next, monotonic; INT64_MAX for never.
  int64_t Enforce(Turn& turn);

 private:
  // When the attempt is due to be told, or to be ended as hung.
  int64_t NoticeMillis(const Attempt& attempt, const v1::JobRecord& record, int64_t now) const;
  static int64_t HungMillis(const Attempt& attempt);
  void EndAtLimit(Turn& turn, v1::JobRecord& record);
  void EndHung(Turn& turn, const Attempt& attempt, v1::JobRecord& record);

  const Parts parts_;
};

}  // namespace moe::coordinator
