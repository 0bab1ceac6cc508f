// The attempts that have a run folder on this worker. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/clock.h"
#include "moe/v1/worker_service.pb.h"
#include "worker/daemon/attempt.h"
#include "worker/daemon/run_folder.h"

namespace moe::worker {

class AttemptSet {
 public:
  AttemptSet(std::string runs_path, const Clock* clock)
      : runs_path_(std::move(runs_path)), clock_(clock) {}

  // Takes over the runs that an earlier daemon left; those that are damaged are given up.
  // `lease_until_ms` becomes, on the monotonic clock, until when their ranks can have been told at
  // most that they may run.
  absl::Status TakeOver(int64_t* lease_until_ms);
  // Makes the run folder of a new attempt.
  absl::StatusOr<Attempt*> Create(const v1::StartAttempt& order);
  // Removes what was forgotten and does not run any more.
  void RemoveForgotten();

  Attempt* Find(const v1::AttemptRef& ref);
  Rank* FindRank(const v1::AttemptRef& ref, int rank);
  void ForEachRank(const std::function<void(Attempt&, Rank&)>& visit);
  std::vector<AttemptKey> Keys() const;
  size_t size() const { return attempts_.size(); }
  std::map<AttemptKey, Attempt>& all() { return attempts_; }

 private:
  // Whether anything of it was ever started.
  absl::StatusOr<bool> TakeOverAttempt(Attempt& attempt, int64_t* lease_until_ms);

  const std::string runs_path_;
  const Clock* const clock_;
  std::map<AttemptKey, Attempt> attempts_;
};

}  // namespace moe::worker
