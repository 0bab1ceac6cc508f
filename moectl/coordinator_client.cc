#include "moectl/coordinator_client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>
#include <utility>

#include "common/net/tls.h"
#include "common/status.h"

namespace moe::moectl {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using std::chrono::system_clock;

constexpr int64_t kDefaultCallTimeoutMs = 10'000;
constexpr int64_t kDefaultSubmitTimeoutMs = 30'000;
// Small enough that a page with the routing of many layers stays below the message limit.
constexpr int kStepsPerPage = 500;
constexpr milliseconds kFirstPause{100};
constexpr milliseconds kLongestPause{2'000};

bool IsLocal(const std::string& endpoint) {
  if (endpoint.starts_with("unix:")) return true;
  const std::string host = endpoint.substr(0, endpoint.rfind(':'));
  return host == "localhost" || host == "[::1]" || host.starts_with("127.");
}

bool HasPort(const std::string& endpoint) {
  const size_t colon = endpoint.rfind(':');
  return colon != std::string::npos && colon > 0 && colon + 1 < endpoint.size() &&
         endpoint.find_first_not_of("0123456789", colon + 1) == std::string::npos;
}

bool IsPipelineId(const std::string& name) {
  return name.size() > 1 && name[0] == 'p' &&
         name.find_first_not_of("0123456789", 1) == std::string::npos;
}

int64_t IdNumber(const moe::v1::Job& job) {
  return std::strtoll(job.job_id().c_str() + (job.job_id().empty() ? 0 : 1), nullptr, 10);
}

}  // namespace

absl::StatusOr<CoordinatorClient> CoordinatorClient::Create(Options options) {
  if (!options.endpoint.starts_with("unix:") && !HasPort(options.endpoint)) {
    return InvalidArgument("endpoint '{}': expected HOST:PORT, such as 127.0.0.1:7070",
                           options.endpoint);
  }
  if (options.tls_dir.empty()) {
    if (IsLocal(options.endpoint)) {
      return CoordinatorClient(std::move(options), grpc::InsecureChannelCredentials());
    }
    return InvalidArgument(
        "endpoint '{}' is not on this machine, and so needs TLS: give --tls-dir with certificates "
        "for this client (moectl cert init makes them)",
        options.endpoint);
  }
  MOE_RETURN_IF_ERROR(CheckTlsFolder(options.tls_dir, "--tls-dir"));
  auto credentials = TlsChannelCredentials(options.tls_dir);
  if (!options.token.empty()) {
    credentials =
        grpc::CompositeChannelCredentials(credentials, grpc::AccessTokenCredentials(options.token));
  }
  return CoordinatorClient(std::move(options), credentials);
}

CoordinatorClient::CoordinatorClient(Options options,
                                     const std::shared_ptr<grpc::ChannelCredentials>& credentials)
    : options_(std::move(options)) {
  grpc::ChannelArguments arguments;
  // gRPC's own default waits up to two minutes before it tries to connect again.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  // In spite of its name, how long one attempt to connect may take: a machine under load needs its
  // time for a TCP and a TLS handshake. One that is refused is tried again after the back-off.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5'000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1'000);
  // A report of a big model with its routing may be above the default of 4 MiB.
  arguments.SetMaxReceiveMessageSize(64 << 20);
  // Loopback must not go through a proxy of the environment.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  channel_ = grpc::CreateCustomChannel(options_.endpoint, credentials, arguments);
  jobs_ = moe::v1::JobService::NewStub(channel_);
  artefacts_ = moe::v1::ArtefactService::NewStub(channel_);
  cluster_ = moe::v1::ClusterService::NewStub(channel_);
  access_ = moe::v1::AccessService::NewStub(channel_);
  sampler_ = moe::v1::SamplerService::NewStub(channel_);
  audit_ = moe::v1::AuditService::NewStub(channel_);
}

absl::Status CoordinatorClient::ToStatus(const grpc::Status& status) const {
  switch (status.error_code()) {
    case grpc::StatusCode::OK:
      return absl::OkStatus();
    case grpc::StatusCode::UNAVAILABLE:
      return Unavailable(
          "no coordinator answers at {}: is moe-coordinator running there? Name another place "
          "with --endpoint, MOECTL_ENDPOINT or a context. ({})",
          options_.endpoint, status.error_message());
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return DeadlineExceeded(
          "the coordinator at {} did not answer in time; give it longer with --timeout",
          options_.endpoint);
    case grpc::StatusCode::UNIMPLEMENTED:
      return Unimplemented(
          "the coordinator at {} does not know this call: its version differs "
          "from moectl's (see moectl version). ({})",
          options_.endpoint, status.error_message());
    default:
      // gRPC's codes and Abseil's are the same numbers.
      return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                          status.error_message());
  }
}

template <typename Stub, typename Request, typename Response>
absl::StatusOr<Response> CoordinatorClient::Call(
    Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
    const Request& request) {
  grpc::ClientContext context;
  context.set_deadline(system_clock::now() +
                       milliseconds(options_.call_timeout_ms.value_or(kDefaultCallTimeoutMs)));
  Response response;
  const grpc::Status status = (stub.*method)(&context, request, &response);
  if (!status.ok()) return ToStatus(status);
  return response;
}

absl::StatusOr<moe::v1::EstimatePipelineResponse> CoordinatorClient::EstimatePipeline(
    const moe::v1::EstimatePipelineRequest& request) {
  return Call(*jobs_, &moe::v1::JobService::Stub::EstimatePipeline, request);
}

absl::StatusOr<moe::v1::SubmitPipelineResponse> CoordinatorClient::Submit(
    const moe::v1::SubmitPipelineRequest& request) {
  const milliseconds timeout(options_.submit_timeout_ms.value_or(kDefaultSubmitTimeoutMs));
  const auto end = steady_clock::now() + timeout;
  milliseconds pause = kFirstPause;
  while (true) {
    auto response = Call(*jobs_, &moe::v1::JobService::Stub::SubmitPipeline, request);
    if (response.ok()) return response;
    const absl::StatusCode code = response.status().code();
    if (code != absl::StatusCode::kUnavailable && code != absl::StatusCode::kDeadlineExceeded) {
      return response;
    }
    if (steady_clock::now() + pause >= end) {
      return Annotate(
          response.status(),
          fmt::format("tried for {} s. If an answer was lost the jobs may exist: to be sure, and "
                      "without making them twice, submit again with --request-id {}",
                      timeout.count() / 1000.0, request.request_id()));
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, kLongestPause);
  }
}

absl::StatusOr<moe::v1::Job> CoordinatorClient::GetJob(const std::string& job) {
  moe::v1::GetJobRequest request;
  request.set_job(job);
  MOE_ASSIGN_OR_RETURN(auto response, Call(*jobs_, &moe::v1::JobService::Stub::GetJob, request));
  return std::move(*response.mutable_job());
}

absl::StatusOr<moe::v1::ListJobsResponse> CoordinatorClient::ListJobs(
    moe::v1::ListJobsRequest request) {
  moe::v1::ListJobsResponse all;
  request.set_page_size(1000);
  do {
    MOE_ASSIGN_OR_RETURN(auto page, Call(*jobs_, &moe::v1::JobService::Stub::ListJobs, request));
    request.set_page_token(page.next_page_token());
    if (all.revision() == 0) all.set_revision(page.revision());
    page.clear_revision();
    page.clear_next_page_token();
    all.MergeFrom(page);
  } while (!request.page_token().empty());
  return all;
}

absl::StatusOr<moe::v1::Job> CoordinatorClient::CancelJob(const JobWish& wish) {
  moe::v1::CancelJobRequest request;
  request.set_job(wish.job);
  request.set_reason(wish.reason);
  request.set_etag(wish.etag);
  MOE_ASSIGN_OR_RETURN(auto response, Call(*jobs_, &moe::v1::JobService::Stub::CancelJob, request));
  return std::move(*response.mutable_job());
}

absl::StatusOr<moe::v1::Job> CoordinatorClient::HoldJob(const JobWish& wish) {
  moe::v1::HoldJobRequest request;
  request.set_job(wish.job);
  request.set_reason(wish.reason);
  request.set_etag(wish.etag);
  MOE_ASSIGN_OR_RETURN(auto response, Call(*jobs_, &moe::v1::JobService::Stub::HoldJob, request));
  return std::move(*response.mutable_job());
}

absl::StatusOr<moe::v1::Job> CoordinatorClient::ReleaseJob(const JobWish& wish) {
  moe::v1::ReleaseJobRequest request;
  request.set_job(wish.job);
  request.set_etag(wish.etag);
  MOE_ASSIGN_OR_RETURN(auto response,
                       Call(*jobs_, &moe::v1::JobService::Stub::ReleaseJob, request));
  return std::move(*response.mutable_job());
}

absl::StatusOr<moe::v1::Job> CoordinatorClient::PreemptJob(const JobWish& wish) {
  moe::v1::PreemptJobRequest request;
  request.set_job(wish.job);
  request.set_reason(wish.reason);
  request.set_etag(wish.etag);
  MOE_ASSIGN_OR_RETURN(auto response,
                       Call(*jobs_, &moe::v1::JobService::Stub::PreemptJob, request));
  return std::move(*response.mutable_job());
}

absl::StatusOr<moe::v1::PlanPipelineResponse> CoordinatorClient::PlanPipeline(
    const moe::v1::PlanPipelineRequest& request) {
  return Call(*jobs_, &moe::v1::JobService::Stub::PlanPipeline, request);
}

absl::StatusOr<moe::v1::GetGoodputResponse> CoordinatorClient::GetGoodput(const std::string& job) {
  moe::v1::GetGoodputRequest request;
  request.set_job(job);
  return Call(*jobs_, &moe::v1::JobService::Stub::GetGoodput, request);
}

absl::StatusOr<moe::v1::ExplainJobResponse> CoordinatorClient::ExplainJob(const std::string& job) {
  moe::v1::ExplainJobRequest request;
  request.set_job(job);
  return Call(*jobs_, &moe::v1::JobService::Stub::ExplainJob, request);
}

absl::StatusOr<moe::v1::ListEventsResponse> CoordinatorClient::ListEvents(const std::string& job) {
  moe::v1::ListEventsRequest request;
  request.set_job(job);
  return Call(*jobs_, &moe::v1::JobService::Stub::ListEvents, request);
}

absl::StatusOr<moe::v1::ListStepsResponse> CoordinatorClient::ListSteps(const std::string& job) {
  moe::v1::ListStepsResponse all;
  moe::v1::ListStepsRequest request;
  request.set_job(job);
  request.set_page_size(kStepsPerPage);
  while (true) {
    MOE_ASSIGN_OR_RETURN(auto page, Call(*jobs_, &moe::v1::JobService::Stub::ListSteps, request));
    all.MergeFrom(page);
    if (page.steps_size() < kStepsPerPage) return all;
    request.set_after_step(page.steps(page.steps_size() - 1).step());
  }
}

absl::StatusOr<moe::v1::Artefact> CoordinatorClient::GetArtefact(const std::string& artefact) {
  moe::v1::GetArtefactRequest request;
  request.set_artefact(artefact);
  MOE_ASSIGN_OR_RETURN(auto response,
                       Call(*artefacts_, &moe::v1::ArtefactService::Stub::GetArtefact, request));
  return std::move(*response.mutable_artefact());
}

absl::StatusOr<moe::v1::ListArtefactsResponse> CoordinatorClient::ListArtefacts(
    moe::v1::ListArtefactsRequest request) {
  moe::v1::ListArtefactsResponse all;
  request.set_page_size(1000);
  do {
    MOE_ASSIGN_OR_RETURN(
        auto page, Call(*artefacts_, &moe::v1::ArtefactService::Stub::ListArtefacts, request));
    request.set_page_token(page.next_page_token());
    page.clear_next_page_token();
    all.MergeFrom(page);
  } while (!request.page_token().empty());
  return all;
}

absl::StatusOr<moe::v1::ListWorkersResponse> CoordinatorClient::ListWorkers() {
  return Call(*cluster_, &moe::v1::ClusterService::Stub::ListWorkers,
              moe::v1::ListWorkersRequest());
}

absl::StatusOr<moe::v1::Worker> CoordinatorClient::DrainWorker(
    const moe::v1::DrainWorkerRequest& request) {
  MOE_ASSIGN_OR_RETURN(auto response,
                       Call(*cluster_, &moe::v1::ClusterService::Stub::DrainWorker, request));
  return std::move(*response.mutable_worker());
}

absl::StatusOr<moe::v1::Worker> CoordinatorClient::UndrainWorker(const std::string& worker_id) {
  moe::v1::UndrainWorkerRequest request;
  request.set_worker_id(worker_id);
  MOE_ASSIGN_OR_RETURN(auto response,
                       Call(*cluster_, &moe::v1::ClusterService::Stub::UndrainWorker, request));
  return std::move(*response.mutable_worker());
}

absl::StatusOr<moe::v1::ListQueuesResponse> CoordinatorClient::ListQueues() {
  return Call(*cluster_, &moe::v1::ClusterService::Stub::ListQueues, moe::v1::ListQueuesRequest());
}

absl::StatusOr<moe::v1::GetCoordinatorResponse> CoordinatorClient::GetCoordinator() {
  return Call(*cluster_, &moe::v1::ClusterService::Stub::GetCoordinator,
              moe::v1::GetCoordinatorRequest());
}

absl::StatusOr<moe::v1::Token> CoordinatorClient::CreateToken(
    const moe::v1::CreateTokenRequest& request) {
  MOE_ASSIGN_OR_RETURN(auto response,
                       Call(*access_, &moe::v1::AccessService::Stub::CreateToken, request));
  return std::move(*response.mutable_token());
}

absl::StatusOr<moe::v1::ListTokensResponse> CoordinatorClient::ListTokens() {
  return Call(*access_, &moe::v1::AccessService::Stub::ListTokens, moe::v1::ListTokensRequest());
}

absl::StatusOr<moe::v1::Token> CoordinatorClient::RevokeToken(const std::string& token_id) {
  moe::v1::RevokeTokenRequest request;
  request.set_token_id(token_id);
  MOE_ASSIGN_OR_RETURN(auto response,
                       Call(*access_, &moe::v1::AccessService::Stub::RevokeToken, request));
  return std::move(*response.mutable_token());
}

absl::StatusOr<moe::v1::ListAuditEntriesResponse> CoordinatorClient::ListAuditEntries(
    const moe::v1::ListAuditEntriesRequest& request) {
  return Call(*audit_, &moe::v1::AuditService::Stub::ListAuditEntries, request);
}

absl::StatusOr<moe::v1::GetSamplerResponse> CoordinatorClient::GetSampler(const std::string& job) {
  moe::v1::GetSamplerRequest request;
  request.set_job(job);
  return Call(*sampler_, &moe::v1::SamplerService::Stub::GetSampler, request);
}

absl::StatusOr<moe::v1::ListDecisionsResponse> CoordinatorClient::ListDecisions(
    const std::string& job) {
  moe::v1::ListDecisionsRequest request;
  request.set_job(job);
  return Call(*sampler_, &moe::v1::SamplerService::Stub::ListDecisions, request);
}

absl::StatusOr<moe::v1::PinWeightsResponse> CoordinatorClient::PinWeights(
    const moe::v1::PinWeightsRequest& request) {
  return Call(*sampler_, &moe::v1::SamplerService::Stub::PinWeights, request);
}

absl::StatusOr<moe::v1::UnpinWeightsResponse> CoordinatorClient::UnpinWeights(
    const std::string& job) {
  moe::v1::UnpinWeightsRequest request;
  request.set_job(job);
  return Call(*sampler_, &moe::v1::SamplerService::Stub::UnpinWeights, request);
}

absl::StatusOr<moe::v1::RollBackWeightsResponse> CoordinatorClient::RollBackWeights(
    const std::string& job, int64_t version) {
  moe::v1::RollBackWeightsRequest request;
  request.set_job(job);
  request.set_version(version);
  return Call(*sampler_, &moe::v1::SamplerService::Stub::RollBackWeights, request);
}

absl::StatusOr<moe::v1::ReplayDecisionsResponse> CoordinatorClient::ReplayDecisions(
    const std::string& job) {
  moe::v1::ReplayDecisionsRequest request;
  request.set_job(job);
  return Call(*sampler_, &moe::v1::SamplerService::Stub::ReplayDecisions, request);
}

absl::StatusOr<std::vector<moe::v1::Job>> CoordinatorClient::ResolveJobs(
    const std::vector<std::string>& names) {
  std::vector<moe::v1::Job> jobs;
  std::set<std::string> seen;
  auto add = [&](moe::v1::Job job) {
    if (seen.insert(job.job_id()).second) jobs.push_back(std::move(job));
  };
  for (const std::string& name : names) {
    if (!IsPipelineId(name)) {
      MOE_ASSIGN_OR_RETURN(moe::v1::Job job, GetJob(name));
      add(std::move(job));
      continue;
    }
    moe::v1::ListJobsRequest request;
    request.set_pipeline_id(name);
    MOE_ASSIGN_OR_RETURN(moe::v1::ListJobsResponse listed, ListJobs(request));
    if (listed.jobs().empty()) return NotFound("no pipeline '{}'; see moectl job list", name);
    auto* members = listed.mutable_jobs();
    std::sort(members->begin(), members->end(),
              [](const auto& a, const auto& b) { return IdNumber(a) < IdNumber(b); });
    for (moe::v1::Job& job : *members) add(std::move(job));
  }
  return jobs;
}

}  // namespace moe::moectl
