// Workers come, are heard of, and are lost: what that means for the attempts on them. Belongs to
// the loop's thread (coordinator/turn.h).
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "coordinator/attempt_ends.h"
#include "coordinator/attempt_table.h"
#include "coordinator/doorbell.h"
#include "coordinator/sampler/domain_sampler.h"
#include "coordinator/supervisor_observer.h"
#include "coordinator/supervisor_options.h"
#include "coordinator/turn.h"
#include "coordinator/worker_messages.h"
#include "coordinator/worker_registry.h"
#include "moe/v1/worker_service.pb.h"
#include "storage/rocks/store.h"

namespace moe::coordinator {

class WorkerPresence {
 public:
  struct Parts {
    const storage::Store* store = nullptr;
    AttemptTable* attempts = nullptr;
    AttemptEnds* ends = nullptr;
    DomainSampler* sampler = nullptr;
    WorkerRegistry* workers = nullptr;
    WorkerMessages* messages = nullptr;
    SupervisorObserver* observer = nullptr;
    Doorbell* doorbell = nullptr;
  };
  WorkerPresence(const SupervisorOptions& options, Parts parts)
      : options_(options), parts_(parts) {}

  // Answers with what is durable of the attempts that the worker names, has it forget those that
  // are over, gives up those that it should have and does not name, and repeats all orders.
  absl::Status OnRegister(Turn& turn, const v1::Register& hello,
                          std::shared_ptr<WorkerSession> session);
  void OnHeartbeat(Turn& turn, const std::string& worker_id, const v1::Heartbeat& heartbeat);
  // Gives up the attempts of workers whose leases have run out.
  void LoseSilent(Turn& turn);

 private:
  // The answer to `hello`, and the attempts that are on the worker as it says.
  std::set<AttemptId> Welcome(Turn& turn, const v1::Register& hello);
  // Everything that the worker may have missed of the attempt.
  absl::Status Repeat(Turn& turn, Attempt& attempt, const std::string& worker_id);
  void LoseAttemptOn(Turn& turn, Attempt& attempt, const std::string& worker_id,
                     const std::string& why);

  const SupervisorOptions& options_;
  const Parts parts_;
};

}  // namespace moe::coordinator
