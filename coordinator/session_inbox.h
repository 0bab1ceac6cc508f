// What a worker's stream brings, in order. Belongs to the loop's thread (coordinator/turn.h).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "coordinator/supervisor.h"
#include "coordinator/turn.h"
#include "coordinator/worker_registry.h"
#include "moe/v1/worker_service.pb.h"

namespace moe::coordinator {

class SessionInbox {
 public:
  // `certificate_id` names the only worker that the peer may be; nullopt where nobody is asked.
  SessionInbox(WorkerRegistry* workers, Supervisor* supervisor,
               std::optional<std::string> certificate_id)
      : workers_(workers), supervisor_(supervisor), certificate_id_(std::move(certificate_id)) {}

  // An error is to end the stream. What comes after it, or after the worker has opened another
  // session, is void.
  absl::Status Handle(Turn& turn, const v1::SessionRequest& message,
                      const std::shared_ptr<WorkerSession>& session);
  // The stream has ended.
  void Closed(const WorkerSession* session);

  // Empty until it has registered.
  const std::string& worker_id() const { return worker_id_; }

 private:
  absl::Status Dispatch(Turn& turn, const v1::SessionRequest& message,
                        const std::shared_ptr<WorkerSession>& session);
  absl::Status CheckCertificate(const std::string& worker_id) const;

  WorkerRegistry* const workers_;
  Supervisor* const supervisor_;
  const std::optional<std::string> certificate_id_;
  std::string worker_id_;
  bool failed_ = false;
};

}  // namespace moe::coordinator
