// JobService: jobs for people and programs (proto/moe/v1/job_service.proto).
#pragma once

#include "coordinator/core.h"
#include "coordinator/services/change_feed.h"
#include "moe/v1/job_service.grpc.pb.h"

namespace moe::coordinator {

// WatchJobs writes messages that are serialised already (watch_stream.cc).
class JobServiceImpl final
    : public v1::JobService::WithRawCallbackMethod_WatchJobs<v1::JobService::CallbackService> {
 public:
  explicit JobServiceImpl(const Core& core) : core_(core), feed_(core.jobs) {}

  grpc::ServerUnaryReactor* SubmitPipeline(grpc::CallbackServerContext* context,
                                           const v1::SubmitPipelineRequest* request,
                                           v1::SubmitPipelineResponse* response) override;
  grpc::ServerUnaryReactor* EstimatePipeline(grpc::CallbackServerContext* context,
                                             const v1::EstimatePipelineRequest* request,
                                             v1::EstimatePipelineResponse* response) override;
  grpc::ServerUnaryReactor* PlanPipeline(grpc::CallbackServerContext* context,
                                         const v1::PlanPipelineRequest* request,
                                         v1::PlanPipelineResponse* response) override;
  grpc::ServerUnaryReactor* GetGoodput(grpc::CallbackServerContext* context,
                                       const v1::GetGoodputRequest* request,
                                       v1::GetGoodputResponse* response) override;
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context,
                                   const v1::GetJobRequest* request,
                                   v1::GetJobResponse* response) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context,
                                     const v1::ListJobsRequest* request,
                                     v1::ListJobsResponse* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* WatchJobs(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* context,
                                      const v1::CancelJobRequest* request,
                                      v1::CancelJobResponse* response) override;
  grpc::ServerUnaryReactor* HoldJob(grpc::CallbackServerContext* context,
                                    const v1::HoldJobRequest* request,
                                    v1::HoldJobResponse* response) override;
  grpc::ServerUnaryReactor* ReleaseJob(grpc::CallbackServerContext* context,
                                       const v1::ReleaseJobRequest* request,
                                       v1::ReleaseJobResponse* response) override;
  grpc::ServerUnaryReactor* PreemptJob(grpc::CallbackServerContext* context,
                                       const v1::PreemptJobRequest* request,
                                       v1::PreemptJobResponse* response) override;
  grpc::ServerUnaryReactor* ExplainJob(grpc::CallbackServerContext* context,
                                       const v1::ExplainJobRequest* request,
                                       v1::ExplainJobResponse* response) override;
  grpc::ServerWriteReactor<v1::ReadLogsResponse>* ReadLogs(
      grpc::CallbackServerContext* context, const v1::ReadLogsRequest* request) override;
  grpc::ServerUnaryReactor* ListEvents(grpc::CallbackServerContext* context,
                                       const v1::ListEventsRequest* request,
                                       v1::ListEventsResponse* response) override;
  grpc::ServerUnaryReactor* ListSteps(grpc::CallbackServerContext* context,
                                      const v1::ListStepsRequest* request,
                                      v1::ListStepsResponse* response) override;

 private:
  const Core core_;
  ChangeFeed feed_;
};

}  // namespace moe::coordinator
