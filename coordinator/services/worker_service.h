// WorkerService: the workers' streams (proto/moe/v1/worker_service.proto).
#pragma once

#include "coordinator/core.h"
#include "moe/v1/worker_service.grpc.pb.h"

namespace moe::coordinator {

class WorkerServiceImpl final : public v1::WorkerService::CallbackService {
 public:
  explicit WorkerServiceImpl(const Core& core) : core_(core) {}

  grpc::ServerBidiReactor<v1::SessionRequest, v1::SessionResponse>* Session(
      grpc::CallbackServerContext* context) override;

 private:
  const Core core_;
};

}  // namespace moe::coordinator
