#include "coordinator/services/cluster_service.h"

#include "common/net/protocol_version.h"
#include "coordinator/services/unary.h"
#include "coordinator/timestamp.h"
#include "coordinator/version.h"

namespace moe::coordinator {

grpc::ServerUnaryReactor* ClusterServiceImpl::GetCoordinator(
    grpc::CallbackServerContext* context, const v1::GetCoordinatorRequest* request,
    v1::GetCoordinatorResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  response->set_version(kVersion);
  response->set_protocol_version(kProtocolVersion);
  response->set_artefact_root(core_.artefact_root);
  response->set_metrics_url(core_.metrics_url);
  *response->mutable_start_time() = ToTimestamp(core_.start_unix_millis);
  FinishUnary(core_.metrics, "GetCoordinator", reactor)(absl::OkStatus());
  return reactor;
}

grpc::ServerUnaryReactor* ClusterServiceImpl::ListWorkers(grpc::CallbackServerContext* context,
                                                          const v1::ListWorkersRequest* request,
                                                          v1::ListWorkersResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const Finish finish = FinishUnary(core_.metrics, "ListWorkers", reactor);
  core_.queue->Read([this, response, finish] {
    *response = core_.workers->List(core_.clock->MonotonicMillis());
    finish(absl::OkStatus());
  });
  return reactor;
}

}  // namespace moe::coordinator
