// ClusterService: the coordinator and its workers (proto/moe/v1/cluster_service.proto).
#pragma once

#include "coordinator/core.h"
#include "moe/v1/cluster_service.grpc.pb.h"

namespace moe::coordinator {

class ClusterServiceImpl final : public v1::ClusterService::CallbackService {
 public:
  explicit ClusterServiceImpl(const Core& core) : core_(core) {}

  grpc::ServerUnaryReactor* GetCoordinator(grpc::CallbackServerContext* context,
                                           const v1::GetCoordinatorRequest* request,
                                           v1::GetCoordinatorResponse* response) override;
  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* context,
                                        const v1::ListWorkersRequest* request,
                                        v1::ListWorkersResponse* response) override;
  grpc::ServerUnaryReactor* DrainWorker(grpc::CallbackServerContext* context,
                                        const v1::DrainWorkerRequest* request,
                                        v1::DrainWorkerResponse* response) override;
  grpc::ServerUnaryReactor* UndrainWorker(grpc::CallbackServerContext* context,
                                          const v1::UndrainWorkerRequest* request,
                                          v1::UndrainWorkerResponse* response) override;
  grpc::ServerUnaryReactor* ListQueues(grpc::CallbackServerContext* context,
                                       const v1::ListQueuesRequest* request,
                                       v1::ListQueuesResponse* response) override;

 private:
  // Pre-empts what runs on the worker.
  absl::Status StopJobsOn(Turn& turn, const v1::DrainWorkerRequest& request);

  const Core core_;
};

}  // namespace moe::coordinator
