// The coordinator as commands see it: calls with deadlines, errors as people can read them.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/status.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "moe/v1/access_service.grpc.pb.h"
#include "moe/v1/artefact_service.grpc.pb.h"
#include "moe/v1/audit_service.grpc.pb.h"
#include "moe/v1/cluster_service.grpc.pb.h"
#include "moe/v1/job_service.grpc.pb.h"
#include "moe/v1/sampler_service.grpc.pb.h"

namespace moe::moectl {

// Errors of all calls: the code is the server's; UNAVAILABLE and DEADLINE_EXCEEDED say where the
// coordinator was looked for and how to name another place.
class CoordinatorClient {
 public:
  struct Options {
    // "127.0.0.1:7070", "localhost:7070", "unix:/run/moe.sock".
    std::string endpoint;
    // Certificates (common/net/tls.h). Empty: no TLS, and then only to this machine.
    std::string tls_dir = {};
    // Sent with TLS only. Empty: none.
    std::string token = {};
    // How long one call may take. Default 10 s.
    std::optional<int64_t> call_timeout_ms = std::nullopt;
    // For how long Submit tries again. Default 30 s.
    std::optional<int64_t> submit_timeout_ms = std::nullopt;
  };

  // INVALID_ARGUMENT where the endpoint is not on this machine and there are no certificates.
  // Connects with the first call.
  static absl::StatusOr<CoordinatorClient> Create(Options options);

  // One try, but for a coordinator that cannot be reached or does not answer: the same request is
  // sent again, with growing pauses, until submit_timeout_ms is over. request_id makes that safe.
  absl::StatusOr<moe::v1::SubmitPipelineResponse> Submit(
      const moe::v1::SubmitPipelineRequest& request);
  absl::StatusOr<moe::v1::EstimatePipelineResponse> EstimatePipeline(
      const moe::v1::EstimatePipelineRequest& request);
  // `job` is an id or a name.
  absl::StatusOr<moe::v1::Job> GetJob(const std::string& job);
  // All pages.
  absl::StatusOr<moe::v1::ListJobsResponse> ListJobs(moe::v1::ListJobsRequest request);
  // A change of a job. `etag`: only where the job is still as it was when that was read; empty: in
  // any case.
  struct JobWish {
    std::string job;
    std::string reason = {};
    std::string etag = {};
  };
  absl::StatusOr<moe::v1::Job> CancelJob(const JobWish& wish);
  absl::StatusOr<moe::v1::Job> HoldJob(const JobWish& wish);
  absl::StatusOr<moe::v1::Job> ReleaseJob(const JobWish& wish);
  absl::StatusOr<moe::v1::Job> PreemptJob(const JobWish& wish);
  absl::StatusOr<moe::v1::PlanPipelineResponse> PlanPipeline(
      const moe::v1::PlanPipelineRequest& request);
  // Of all jobs where `job` is empty.
  absl::StatusOr<moe::v1::GetGoodputResponse> GetGoodput(const std::string& job);
  absl::StatusOr<moe::v1::ExplainJobResponse> ExplainJob(const std::string& job);
  absl::StatusOr<moe::v1::ListEventsResponse> ListEvents(const std::string& job);
  // All pages.
  absl::StatusOr<moe::v1::ListStepsResponse> ListSteps(const std::string& job);
  absl::StatusOr<moe::v1::Artefact> GetArtefact(const std::string& artefact);
  // All pages.
  absl::StatusOr<moe::v1::ListArtefactsResponse> ListArtefacts(
      moe::v1::ListArtefactsRequest request);
  absl::StatusOr<moe::v1::ListWorkersResponse> ListWorkers();
  absl::StatusOr<moe::v1::Worker> DrainWorker(const moe::v1::DrainWorkerRequest& request);
  absl::StatusOr<moe::v1::Worker> UndrainWorker(const std::string& worker_id);
  absl::StatusOr<moe::v1::ListQueuesResponse> ListQueues();
  absl::StatusOr<moe::v1::GetCoordinatorResponse> GetCoordinator();

  absl::StatusOr<moe::v1::Token> CreateToken(const moe::v1::CreateTokenRequest& request);
  absl::StatusOr<moe::v1::ListTokensResponse> ListTokens();
  absl::StatusOr<moe::v1::Token> RevokeToken(const std::string& token_id);
  // One page.
  absl::StatusOr<moe::v1::ListAuditEntriesResponse> ListAuditEntries(
      const moe::v1::ListAuditEntriesRequest& request);
  absl::StatusOr<moe::v1::GetSamplerResponse> GetSampler(const std::string& job);
  absl::StatusOr<moe::v1::ListDecisionsResponse> ListDecisions(const std::string& job);
  absl::StatusOr<moe::v1::PinWeightsResponse> PinWeights(const moe::v1::PinWeightsRequest& request);
  absl::StatusOr<moe::v1::UnpinWeightsResponse> UnpinWeights(const std::string& job);
  absl::StatusOr<moe::v1::RollBackWeightsResponse> RollBackWeights(const std::string& job,
                                                                   int64_t version);
  absl::StatusOr<moe::v1::ReplayDecisionsResponse> ReplayDecisions(const std::string& job);

  // The jobs that `names` stand for, each once, in order: "p4" is every job of a pipeline in the
  // order of submission, anything else a job's id or name.
  absl::StatusOr<std::vector<moe::v1::Job>> ResolveJobs(const std::vector<std::string>& names);

  // For streams.
  grpc::Channel& channel() { return *channel_; }
  moe::v1::JobService::Stub& jobs() { return *jobs_; }
  const std::string& endpoint() const { return options_.endpoint; }
  // A call's outcome, with the hints described above.
  absl::Status ToStatus(const grpc::Status& status) const;

 private:
  CoordinatorClient(Options options, const std::shared_ptr<grpc::ChannelCredentials>& credentials);

  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(Stub& stub,
                                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                             Response*),
                                const Request& request);

  Options options_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<moe::v1::JobService::Stub> jobs_;
  std::unique_ptr<moe::v1::ArtefactService::Stub> artefacts_;
  std::unique_ptr<moe::v1::ClusterService::Stub> cluster_;
  std::unique_ptr<moe::v1::AccessService::Stub> access_;
  std::unique_ptr<moe::v1::SamplerService::Stub> sampler_;
  std::unique_ptr<moe::v1::AuditService::Stub> audit_;
};

}  // namespace moe::moectl
