#include "coordinator/services/cluster_service.h"

#include <utility>

#include "common/net/protocol_version.h"
#include "common/status.h"
#include "coordinator/services/caller.h"
#include "coordinator/services/change.h"
#include "coordinator/services/unary.h"
#include "coordinator/timestamp.h"
#include "coordinator/version.h"

namespace moe::coordinator {

grpc::ServerUnaryReactor* ClusterServiceImpl::GetCoordinator(
    grpc::CallbackServerContext* context, const v1::GetCoordinatorRequest* request,
    v1::GetCoordinatorResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "GetCoordinator", *request);
  if (rpc.is_refused) return rpc.reactor;
  response->set_version(kVersion);
  response->set_protocol_version(kProtocolVersions.newest);
  response->set_oldest_protocol_version(kProtocolVersions.oldest);
  response->set_artefact_root(core_.artefact_root);
  response->set_metrics_url(core_.metrics_url);
  *response->mutable_start_time() = ToTimestamp(core_.start_unix_millis);
  rpc.finish(absl::OkStatus());
  return rpc.reactor;
}

grpc::ServerUnaryReactor* ClusterServiceImpl::ListWorkers(grpc::CallbackServerContext* context,
                                                          const v1::ListWorkersRequest* request,
                                                          v1::ListWorkersResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "ListWorkers", *request);
  if (rpc.is_refused) return rpc.reactor;
  core_.queue->Read([this, response, finish = rpc.finish] {
    *response = core_.workers->List(core_.clock->MonotonicMillis());
    core_.jobs->ForEachLive([&](const v1::JobRecord& record) {
      for (const std::string& avoided : record.job().avoided_worker_ids()) {
        for (v1::Worker& worker : *response->mutable_workers()) {
          if (worker.worker_id() != avoided) continue;
          worker.add_avoided_by_job_ids(record.job().job_id());
        }
      }
    });
    finish(absl::OkStatus());
  });
  return rpc.reactor;
}

grpc::ServerUnaryReactor* ClusterServiceImpl::DrainWorker(grpc::CallbackServerContext* context,
                                                          const v1::DrainWorkerRequest* request,
                                                          v1::DrainWorkerResponse* response) {
  return Change(
      core_, context, "DrainWorker", *request, request->worker_id(),
      [this, request, response](Turn& turn, const Caller& caller, std::string*) -> absl::Status {
        MOE_RETURN_IF_ERROR(
            core_.workers->Drain(turn, request->worker_id(), request->reason(), caller.user));
        if (request->stop_jobs()) MOE_RETURN_IF_ERROR(StopJobsOn(turn, *request));
        *response->mutable_worker() =
            core_.workers->Get(request->worker_id(), turn.monotonic_millis);
        core_.supervisor->Wake();  // jobs that wait may have another reason now
        return absl::OkStatus();
      });
}

absl::Status ClusterServiceImpl::StopJobsOn(Turn& turn, const v1::DrainWorkerRequest& request) {
  for (const std::string& attempt : core_.workers->AttemptsOn(request.worker_id())) {
    v1::JobRecord* const record = core_.jobs->Find(attempt.substr(0, attempt.find('.')));
    const bool runs = record != nullptr && (record->job().state() == v1::JOB_STATE_STARTING ||
                                            record->job().state() == v1::JOB_STATE_RUNNING);
    if (!runs) continue;  // it ends anyway
    MOE_RETURN_IF_ERROR(core_.supervisor->Preempt(
        turn, *record, fmt::format("{} is drained: {}", request.worker_id(), request.reason())));
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* ClusterServiceImpl::UndrainWorker(grpc::CallbackServerContext* context,
                                                            const v1::UndrainWorkerRequest* request,
                                                            v1::UndrainWorkerResponse* response) {
  return Change(core_, context, "UndrainWorker", *request, request->worker_id(),
                [this, request, response](Turn& turn, const Caller&, std::string*) -> absl::Status {
                  MOE_RETURN_IF_ERROR(core_.workers->Undrain(turn, request->worker_id()));
                  *response->mutable_worker() =
                      core_.workers->Get(request->worker_id(), turn.monotonic_millis);
                  core_.supervisor->Wake();
                  return absl::OkStatus();
                });
}

grpc::ServerUnaryReactor* ClusterServiceImpl::ListQueues(grpc::CallbackServerContext* context,
                                                         const v1::ListQueuesRequest* request,
                                                         v1::ListQueuesResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "ListQueues", *request);
  if (rpc.is_refused) return rpc.reactor;
  core_.queue->Read([this, response, finish = rpc.finish] {
    for (v1::Queue& queue : core_.supervisor->outlook().Queues(core_.clock->MonotonicMillis())) {
      *response->add_queues() = std::move(queue);
    }
    finish(absl::OkStatus());
  });
  return rpc.reactor;
}

}  // namespace moe::coordinator
