// An attempt as the coordinator holds it in memory: what is stored of it, and what is under way.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/job_table.h"
#include "coordinator/step_pace.h"
#include "moe/v1/record.pb.h"
#include "moe/v1/worker_service.pb.h"

namespace moe::coordinator {

using AttemptId = std::pair<uint64_t, int32_t>;  // job, number

struct AttemptRank {
  std::string worker_id;
  int32_t slot = 0;
  v1::RankRecord record;
  int64_t received_seq = 0;            // of the newest report in `pending` or applied
  int64_t told_seq = 0;                // of the newest report that its worker need not send again
  std::deque<v1::RankReport> pending;  // received, not applied: an artefact is being checked
  bool checking = false;
  std::optional<v1::RankExited> exited;  // waits for `pending`
  v1::RankPulse pulse;                   // the newest; empty: it has not said how far it is
  bool settled() const {
    return record.gone() || record.final_case() != v1::RankRecord::FINAL_NOT_SET;
  }
};

struct Attempt {
  uint64_t job = 0;
  int32_t number = 0;
  v1::AttemptRecord record;
  std::vector<AttemptRank> ranks;
  std::string stop_reason;           // empty: not asked to stop
  std::optional<int> first_to_fail;  // rank
  int64_t ended_millis = 0;          // monotonic
  int64_t placed_millis = 0;         // monotonic; after a restart of the coordinator, its start
  int64_t saved_millis = 0;          // monotonic: nothing that was done before is lost
  StepPace pace;                     // of this attempt's steps
  double checkpoint_seconds = 0;     // what the newest checkpoint took
  AttemptId id() const { return {job, number}; }
};

using AttemptMap = std::map<AttemptId, Attempt>;

inline v1::AttemptRef RefOf(const AttemptId& id) {
  v1::AttemptRef ref;
  ref.set_job_id(FormatJobId(id.first));
  ref.set_attempt(id.second);
  return ref;
}

inline std::set<std::string> WorkersOf(const Attempt& attempt) {
  std::set<std::string> workers;
  for (const AttemptRank& rank : attempt.ranks) workers.insert(rank.worker_id);
  return workers;
}

}  // namespace moe::coordinator
