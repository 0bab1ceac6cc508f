// The books of all slots: where the time of every attempt goes (attempt_ledger.h), what each queue
// and user has used of late, and how long slots were there at all. Belongs to the loop's thread
// (coordinator/turn.h).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/job_table.h"
#include "coordinator/queues/queue_tree.h"
#include "coordinator/queues/queue_usage.h"
#include "coordinator/turn.h"
#include "moe/v1/job_service.pb.h"
#include "moe/v1/record.pb.h"
#include "storage/rocks/store.h"

namespace moe::coordinator {

class SlotLedger {
 public:
  using AttemptId = std::pair<uint64_t, int32_t>;  // job, number

  SlotLedger(const storage::Store* store, JobTable* jobs, const QueueTree* queues)
      : store_(store), jobs_(jobs), queues_(queues), usage_(queues->half_life_seconds()) {}

  // Once, after the jobs were loaded. From then on time is measured on the monotonic clock.
  absl::Status Load(int64_t unix_millis, int64_t monotonic_millis);

  // An attempt that lives: one that an older version placed has no ledger yet and gets one.
  void Adopt(const AttemptId& id, int32_t slots, int64_t monotonic_millis);
  void Open(Turn& turn, const AttemptId& id, int32_t slots, bool resumes);
  // The attempt's ledger, to be changed through attempt_ledger.h and then saved. It must be open.
  v1::AttemptLedger& Of(const AttemptId& id) { return open_.at(id); }
  const v1::AttemptLedger& Of(const AttemptId& id) const { return open_.at(id); }
  void Save(Turn& turn, const AttemptId& id);
  void Close(Turn& turn, const AttemptId& id);

  // Milliseconds since the epoch, on a clock that never goes back.
  int64_t Now(int64_t monotonic_millis) const { return monotonic_millis + epoch_millis_; }
  // How long the job has held slots, over all of its attempts.
  int64_t HeldMillis(const v1::JobRecord& record, int64_t monotonic_millis) const;
  const QueueUsage& usage() const { return usage_; }

  // So many slots are there from now on.
  void CountSlots(int64_t slots, int64_t monotonic_millis);

  // JobService.GetGoodput.
  absl::StatusOr<v1::GetGoodputResponse> OfJob(const v1::JobRecord& record,
                                               int64_t monotonic_millis) const;
  v1::GetGoodputResponse OfAll(int64_t monotonic_millis) const;

 private:
  QueueUsage::Key KeyOf(uint64_t job) const;
  const std::string& QueueName(uint64_t job) const;
  double Seconds(int64_t monotonic_millis) const {
    return static_cast<double>(Now(monotonic_millis)) / 1000;
  }

  const storage::Store* const store_;
  JobTable* const jobs_;
  const QueueTree* const queues_;
  QueueUsage usage_;
  int64_t epoch_millis_ = 0;                       // Unix time less monotonic time, at Load
  std::map<AttemptId, v1::AttemptLedger> open_;    // of attempts that hold slots
  std::map<std::string, v1::SlotSeconds> closed_;  // by queue
  // Since Load, of all slots that were there and of those that were held.
  int64_t slots_ = 0;
  int64_t held_ = 0;
  int64_t counted_millis_ = 0;  // monotonic
  double free_slot_seconds_ = 0;
};

}  // namespace moe::coordinator
