// What the coordinator says to workers about attempts. Sent once the turn is durable; what a worker
// misses is repeated when it registers again.
#pragma once

#include <cstdint>
#include <string>

#include "coordinator/attempt.h"
#include "coordinator/job_table.h"
#include "coordinator/turn.h"
#include "coordinator/worker_registry.h"
#include "moe/v1/worker_service.pb.h"

namespace moe::coordinator {

class WorkerMessages {
 public:
  WorkerMessages(JobTable* jobs, WorkerRegistry* workers) : jobs_(jobs), workers_(workers) {}

  // Start the attempt's ranks of this worker.
  void Start(Turn& turn, const Attempt& attempt, const std::string& worker_id);
  // Nothing that the worker still has of the attempt matters any more.
  void Forget(Turn& turn, const v1::AttemptRef& ref, const std::string& worker_id);
  // What became of an artefact that the rank has written.
  void Decision(Turn& turn, const Attempt& attempt, int32_t rank,
                const v1::ArtefactDecision& decision);
  // The domain weights that rank 0 waits for.
  void Mixture(Turn& turn, const Attempt& attempt, const v1::SamplerDecision& decision);
  // A value that ranks find each other by.
  void Rendezvous(Turn& turn, const Attempt& attempt, const std::string& worker_id,
                  const std::string& key, const std::string& value);
  // The newest report of the rank that is durable, where that is another one than last time. A
  // session begins with it.
  void Acknowledge(Turn& turn, Attempt& attempt, int32_t rank);
  // Stop all ranks, and kill those that have not gone after `grace_ms`.
  void Stop(Turn& turn, Attempt& attempt, const std::string& reason, int32_t grace_ms);

 private:
  // A line for one rank, or for all of the worker's where rank is -1.
  void Command(Turn& turn, const Attempt& attempt, int32_t rank, const std::string& worker_id,
               const std::string& json);

  JobTable* const jobs_;
  WorkerRegistry* const workers_;
};

}  // namespace moe::coordinator
