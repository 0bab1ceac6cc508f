#include "coordinator/services/job_service.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "common/status.h"
#include "coordinator/access.h"
#include "coordinator/estimate.h"
#include "coordinator/files_facts.h"
#include "coordinator/services/caller.h"
#include "coordinator/services/change.h"
#include "coordinator/services/estimate_pipeline.h"
#include "coordinator/services/log_stream.h"
#include "coordinator/services/look_up.h"
#include "coordinator/services/page_size.h"
#include "coordinator/services/plan_pipeline.h"
#include "coordinator/services/unary.h"
#include "coordinator/services/watch_stream.h"

namespace moe::coordinator {
namespace {

constexpr size_t kMaxRequestIdLength = 128;
constexpr char kSubmitPipeline[] = "SubmitPipeline";

// One submission on its way: the loop looks up, the file thread validates, the loop commits.
class Submission : public std::enable_shared_from_this<Submission> {
 public:
  Submission(const Core& core, const v1::SubmitPipelineRequest& request,
             v1::SubmitPipelineResponse* response, Caller caller, Finish finish)
      : core_(core),
        request_(request),
        response_(response),
        caller_(std::move(caller)),
        finish_(std::move(finish)) {}

  void Start() {
    core_.queue->Read([self = shared_from_this()] { self->LookUp(); });
  }

 private:
  // True where an earlier request with this id has the answer, good or bad.
  bool AnsweredBefore() {
    if (request_.validate_only()) return false;
    const auto known = core_.jobs->FindSubmission(request_);
    if (!known.ok()) {
      Refuse(known.status());
      return true;
    }
    if (!known->has_value()) return false;
    *response_ = **known;
    return true;
  }

  void LookUp() {
    if (AnsweredBefore()) {
      if (!response_->pipeline_id().empty()) finish_(absl::OkStatus());
      return;
    }
    FilesFacts::Known known = coordinator::LookUp(core_, request_.jobs());
    if (std::any_of(request_.jobs().begin(), request_.jobs().end(),
                    [](const v1::JobSpec& job) { return TrainSettings(job) != nullptr; })) {
      known.largest_slot = LargestSlot(*core_.workers, core_.clock->MonotonicMillis());
    }
    core_.file_work->Post(
        [self = shared_from_this(), facts = std::make_shared<FilesFacts>(std::move(known))] {
          self->Validate(*facts);
        });
  }

  void Validate(const FilesFacts& facts) {
    auto jobs = CompletePipeline({request_.jobs().begin(), request_.jobs().end()}, facts);
    if (!jobs.ok()) return Refuse(jobs.status());
    core_.queue->Change([self = shared_from_this(), jobs = *std::move(jobs)](Turn& turn) {
      self->Commit(turn, jobs);
    });
  }

  void Commit(Turn& turn, const std::vector<CompleteJob>& jobs) {
    // The same request may have come twice while this one was validated.
    if (AnsweredBefore()) {
      if (response_->pipeline_id().empty()) return;
    } else if (request_.validate_only()) {
      *response_ = core_.jobs->Preview(jobs, caller_.user);
    } else {
      *response_ = core_.jobs->Submit(turn, request_, jobs, caller_.user);
      core_.audit->Record(turn, caller_, kSubmitPipeline, response_->pipeline_id(),
                          absl::OkStatus());
      core_.supervisor->Wake();
    }
    turn.After([self = shared_from_this()] { self->finish_(absl::OkStatus()); });
  }

  void Refuse(const absl::Status& why) {
    if (!request_.validate_only()) {
      core_.audit->Refuse(caller_, kSubmitPipeline, request_.pipeline_name(), why);
    }
    finish_(why);
  }

  const Core& core_;
  const v1::SubmitPipelineRequest& request_;  // gRPC's, valid until finish_
  v1::SubmitPipelineResponse* const response_;
  const Caller caller_;
  const Finish finish_;
};

// That the job is still what the caller saw; an empty etag means any.
absl::Status CheckEtag(const std::string& etag, const v1::Job& job) {
  if (etag.empty() || etag == job.etag()) return absl::OkStatus();
  return Aborted(
      "job {} ('{}') has changed since etag '{}' was read: it is {}, its etag is '{}'; look at it "
      "again before you change it",
      job.job_id(), job.spec().name(), etag, StateName(job.state()), job.etag());
}

// Answers with the job after the change that `apply` makes to it.
template <typename Request, typename Response, typename Apply>
grpc::ServerUnaryReactor* ChangeJob(const Core& core, const char* method,
                                    grpc::CallbackServerContext* context, const Request* request,
                                    Response* response, Apply apply) {
  return Change(core, context, method, *request, request->job(),
                [&core, request, response, apply](Turn& turn, const Caller& caller,
                                                  std::string* target) -> absl::Status {
                  MOE_ASSIGN_OR_RETURN(v1::JobRecord * record,
                                       core.jobs->FindByIdOrName(request->job()));
                  *target = record->job().job_id();
                  MOE_RETURN_IF_ERROR(CheckMayChange(core, caller, record->job()));
                  MOE_RETURN_IF_ERROR(CheckEtag(request->etag(), record->job()));
                  MOE_RETURN_IF_ERROR(apply(turn, *record));
                  *response->mutable_job() = record->job();
                  return absl::OkStatus();
                });
}

}  // namespace

grpc::ServerUnaryReactor* JobServiceImpl::SubmitPipeline(grpc::CallbackServerContext* context,
                                                         const v1::SubmitPipelineRequest* request,
                                                         v1::SubmitPipelineResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, kSubmitPipeline, *request);
  if (rpc.is_refused) return rpc.reactor;
  if (!request->validate_only() &&
      (request->request_id().empty() || request->request_id().size() > kMaxRequestIdLength)) {
    rpc.finish(InvalidArgument("request_id has {} characters; use 1 to {}, unique per submission",
                               request->request_id().size(), kMaxRequestIdLength));
    return rpc.reactor;
  }
  std::make_shared<Submission>(core_, *request, response, CallerOf(core_, *context), rpc.finish)
      ->Start();
  return rpc.reactor;
}

grpc::ServerUnaryReactor* JobServiceImpl::EstimatePipeline(
    grpc::CallbackServerContext* context, const v1::EstimatePipelineRequest* request,
    v1::EstimatePipelineResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "EstimatePipeline", *request);
  if (rpc.is_refused) return rpc.reactor;
  coordinator::EstimatePipeline(core_, *request, response, rpc.finish);
  return rpc.reactor;
}

grpc::ServerUnaryReactor* JobServiceImpl::PlanPipeline(grpc::CallbackServerContext* context,
                                                       const v1::PlanPipelineRequest* request,
                                                       v1::PlanPipelineResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "PlanPipeline", *request);
  if (rpc.is_refused) return rpc.reactor;
  coordinator::PlanPipeline(core_, *request, CallerOf(core_, *context).user, response, rpc.finish);
  return rpc.reactor;
}

grpc::ServerUnaryReactor* JobServiceImpl::GetGoodput(grpc::CallbackServerContext* context,
                                                     const v1::GetGoodputRequest* request,
                                                     v1::GetGoodputResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "GetGoodput", *request);
  if (rpc.is_refused) return rpc.reactor;
  core_.queue->Read([this, request, response, finish = rpc.finish] {
    const int64_t now = core_.clock->MonotonicMillis();
    if (request->job().empty()) {
      *response = core_.supervisor->ledger().OfAll(now);
      return finish(absl::OkStatus());
    }
    const auto record = core_.jobs->FindByIdOrName(request->job());
    if (!record.ok()) return finish(record.status());
    auto goodput = core_.supervisor->ledger().OfJob(**record, now);
    if (goodput.ok()) *response = *std::move(goodput);
    finish(goodput.status());
  });
  return rpc.reactor;
}

grpc::ServerUnaryReactor* JobServiceImpl::GetJob(grpc::CallbackServerContext* context,
                                                 const v1::GetJobRequest* request,
                                                 v1::GetJobResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "GetJob", *request);
  if (rpc.is_refused) return rpc.reactor;
  core_.queue->Read([this, request, response, finish = rpc.finish] {
    const auto record = core_.jobs->FindByIdOrName(request->job());
    if (record.ok()) *response->mutable_job() = (*record)->job();
    finish(record.status());
  });
  return rpc.reactor;
}

grpc::ServerUnaryReactor* JobServiceImpl::ListJobs(grpc::CallbackServerContext* context,
                                                   const v1::ListJobsRequest* request,
                                                   v1::ListJobsResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "ListJobs", *request);
  if (rpc.is_refused) return rpc.reactor;
  core_.queue->Read([this, request, response, finish = rpc.finish] {
    const auto page_size = PageSize(request->page_size(), 100, 1000);
    if (!page_size.ok()) return finish(page_size.status());
    uint64_t before = std::numeric_limits<uint64_t>::max();
    if (!request->page_token().empty()) {
      const auto token = ParseJobId(request->page_token());
      if (!token.has_value()) {
        return finish(InvalidArgument("page_token='{}' is not one that this server gave",
                                      request->page_token()));
      }
      before = *token;
    }
    *response = core_.jobs->List(*request, *page_size, before);
    finish(absl::OkStatus());
  });
  return rpc.reactor;
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* JobServiceImpl::WatchJobs(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return StartWatchStream(core_, &feed_, CallerOf(core_, *context), *request);
}

grpc::ServerUnaryReactor* JobServiceImpl::CancelJob(grpc::CallbackServerContext* context,
                                                    const v1::CancelJobRequest* request,
                                                    v1::CancelJobResponse* response) {
  return ChangeJob(core_, "CancelJob", context, request, response,
                   [this, request](Turn& turn, v1::JobRecord& record) {
                     return core_.supervisor->Cancel(turn, record, request->reason());
                   });
}

grpc::ServerUnaryReactor* JobServiceImpl::HoldJob(grpc::CallbackServerContext* context,
                                                  const v1::HoldJobRequest* request,
                                                  v1::HoldJobResponse* response) {
  return ChangeJob(core_, "HoldJob", context, request, response,
                   [this, request](Turn& turn, v1::JobRecord& record) {
                     return core_.supervisor->Hold(turn, record, request->reason());
                   });
}

grpc::ServerUnaryReactor* JobServiceImpl::ReleaseJob(grpc::CallbackServerContext* context,
                                                     const v1::ReleaseJobRequest* request,
                                                     v1::ReleaseJobResponse* response) {
  return ChangeJob(core_, "ReleaseJob", context, request, response,
                   [this](Turn& turn, v1::JobRecord& record) {
                     return core_.supervisor->Release(turn, record);
                   });
}

grpc::ServerUnaryReactor* JobServiceImpl::PreemptJob(grpc::CallbackServerContext* context,
                                                     const v1::PreemptJobRequest* request,
                                                     v1::PreemptJobResponse* response) {
  return ChangeJob(core_, "PreemptJob", context, request, response,
                   [this, request](Turn& turn, v1::JobRecord& record) {
                     return core_.supervisor->Preempt(turn, record, request->reason());
                   });
}

grpc::ServerUnaryReactor* JobServiceImpl::ExplainJob(grpc::CallbackServerContext* context,
                                                     const v1::ExplainJobRequest* request,
                                                     v1::ExplainJobResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "ExplainJob", *request);
  if (rpc.is_refused) return rpc.reactor;
  core_.queue->Read([this, request, response, finish = rpc.finish] {
    const auto record = core_.jobs->FindByIdOrName(request->job());
    if (record.ok()) {
      *response = core_.supervisor->outlook().Explain(
          **record, {core_.clock->UnixMillis(), core_.clock->MonotonicMillis()});
    }
    finish(record.status());
  });
  return rpc.reactor;
}

grpc::ServerWriteReactor<v1::ReadLogsResponse>* JobServiceImpl::ReadLogs(
    grpc::CallbackServerContext* context, const v1::ReadLogsRequest* request) {
  return StartLogStream(core_, CallerOf(core_, *context), *request);
}

grpc::ServerUnaryReactor* JobServiceImpl::ListEvents(grpc::CallbackServerContext* context,
                                                     const v1::ListEventsRequest* request,
                                                     v1::ListEventsResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "ListEvents", *request);
  if (rpc.is_refused) return rpc.reactor;
  core_.queue->Read([this, request, response, finish = rpc.finish] {
    const auto record = core_.jobs->FindByIdOrName(request->job());
    if (!record.ok()) return finish(record.status());
    const auto events = core_.store->ListEvents(*ParseJobId((*record)->job().job_id()), 0);
    if (!events.ok()) return finish(events.status());
    response->mutable_events()->Add(events->begin(), events->end());
    finish(absl::OkStatus());
  });
  return rpc.reactor;
}

grpc::ServerUnaryReactor* JobServiceImpl::ListSteps(grpc::CallbackServerContext* context,
                                                    const v1::ListStepsRequest* request,
                                                    v1::ListStepsResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "ListSteps", *request);
  if (rpc.is_refused) return rpc.reactor;
  core_.queue->Read([this, request, response, finish = rpc.finish] {
    const auto page_size = PageSize(request->page_size(), 1000, 10000);
    if (!page_size.ok()) return finish(page_size.status());
    const auto record = core_.jobs->FindByIdOrName(request->job());
    if (!record.ok()) return finish(record.status());
    const auto steps = core_.store->ListSteps(*ParseJobId((*record)->job().job_id()),
                                              request->after_step(), *page_size);
    if (!steps.ok()) return finish(steps.status());
    response->mutable_steps()->Add(steps->begin(), steps->end());
    finish(absl::OkStatus());
  });
  return rpc.reactor;
}

}  // namespace moe::coordinator
