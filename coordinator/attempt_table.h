// The attempts that are not over, and with them who holds which slot: a slot is held from the
// attempt's Add or Load to its Remove. Belongs to the loop's thread (coordinator/turn.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/attempt.h"
#include "coordinator/job_table.h"
#include "coordinator/turn.h"
#include "coordinator/worker_registry.h"
#include "storage/rocks/store.h"

namespace moe::coordinator {

class AttemptTable {
 public:
  using Placements = google::protobuf::RepeatedPtrField<v1::Placement>;

  AttemptTable(storage::Store* store, JobTable* jobs, WorkerRegistry* workers)
      : store_(store), jobs_(jobs), workers_(workers) {}

  // Takes up the attempts that lived when the coordinator ended; their workers have one lease TTL
  // to come back. Once, before anything else.
  absl::Status Load(int64_t monotonic_millis);

  // A new attempt; its ranks are numbered through the slots of `placements` in order. The caller
  // completes its record and saves it.
  Attempt& Add(const AttemptId& id, const Placements& placements, int64_t monotonic_millis);
  void Save(Turn& turn, const Attempt& attempt) const;
  void SaveRank(Turn& turn, const Attempt& attempt, int32_t rank) const;
  // Frees the slots and drops the records. `attempt` does not exist afterwards.
  void Remove(Turn& turn, const Attempt& attempt);

  // nullptr where it is over, or never was.
  Attempt* Find(const AttemptId& id);
  // The fence for everything that workers send: nullptr unless the attempt is not over and this
  // rank of it is on this worker.
  Attempt* FindOn(const v1::AttemptRef& ref, int32_t rank, const std::string& worker_id);
  // Whether an attempt of the job is not over.
  bool HasAttemptOf(uint64_t job) const;
  std::vector<AttemptId> IdsOn(const std::string& worker_id) const;
  const AttemptMap& all() const { return attempts_; }
  AttemptMap& all() { return attempts_; }

  v1::JobRecord& JobOf(const Attempt& attempt) const { return *jobs_->Find(attempt.job); }

 private:
  storage::Store* const store_;
  JobTable* const jobs_;
  WorkerRegistry* const workers_;
  AttemptMap attempts_;
};

}  // namespace moe::coordinator
