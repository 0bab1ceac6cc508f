// Tells the coordinator what ranks report, log and how they end, from their files and as far as it
// has acknowledged. Not thread-safe.
#pragma once

#include <memory>
#include <string>

#include "common/clock.h"
#include "moe/v1/worker_service.pb.h"
#include "worker/daemon/attempt.h"
#include "worker/daemon/attempt_set.h"
#include "worker/daemon/session_sink.h"
#include "worker/daemon/worker_metrics.h"

namespace moe::worker {

class AttemptRelay {
 public:
  AttemptRelay(AttemptSet* attempts, const Clock* clock, WorkerMetrics* metrics)
      : attempts_(attempts), clock_(clock), metrics_(metrics) {}

  // A session has begun: attempts with cursors are told of from there, others not until ordered.
  void Begin(std::shared_ptr<SessionSink> sink, const v1::Registered& registered);
  void End() { sink_.reset(); }
  // Dropped without a session.
  void Send(v1::SessionRequest message);
  // That ranks were not even given a folder: a report and an exit for each. Dropped without a
  // session, since the order is repeated in the next.
  void Refuse(const v1::StartAttempt& order, const std::string& why);
  // Sends what is new in the files of ranks with news, up to what may be unacknowledged.
  void Relay();

 private:
  void RelayPulses();
  void RelayRank(Attempt& attempt, Rank& rank);
  void RelayReports(Attempt& attempt, Rank& rank);
  void RelayLog(Attempt& attempt, Rank& rank);

  AttemptSet* const attempts_;
  const Clock* const clock_;
  WorkerMetrics* const metrics_;
  std::shared_ptr<SessionSink> sink_;  // null without a session
};

}  // namespace moe::worker
