#include "coordinator/services/sampler_service.h"

#include <utility>

#include "common/status.h"
#include "coordinator/services/caller.h"
#include "coordinator/services/change.h"
#include "coordinator/services/unary.h"

namespace moe::coordinator {
namespace {

std::string NameOf(const Caller& caller) { return caller.user.empty() ? "a user" : caller.user; }

}  // namespace

absl::StatusOr<v1::JobRecord*> SamplerServiceImpl::Find(const std::string& job) const {
  MOE_ASSIGN_OR_RETURN(v1::JobRecord * record, core_.jobs->FindByIdOrName(job));
  if (record->job().spec().train().mixture().has_dynamic()) return record;
  return FailedPrecondition(
      "job {} ('{}') has no dynamic mixture; its weights are those of its job file",
      record->job().job_id(), record->job().spec().name());
}

const Journal& SamplerServiceImpl::JournalOf(const v1::JobRecord& record) const {
  return core_.sampler->JournalOf(*ParseJobId(record.job().job_id()));
}

template <typename Request>
grpc::ServerUnaryReactor* SamplerServiceImpl::ChangeSampler(
    grpc::CallbackServerContext* context, const char* method, const Request& request,
    std::function<absl::Status(Turn&, v1::JobRecord&, const std::string&)> change) {
  return Change(core_, context, method, request, request.job(),
                [this, &request, change = std::move(change)](Turn& turn, const Caller& caller,
                                                             std::string* target) -> absl::Status {
                  MOE_ASSIGN_OR_RETURN(v1::JobRecord * record, Find(request.job()));
                  *target = record->job().job_id();
                  MOE_RETURN_IF_ERROR(CheckMayChange(core_, caller, record->job()));
                  return change(turn, *record, NameOf(caller));
                });
}

grpc::ServerUnaryReactor* SamplerServiceImpl::GetSampler(grpc::CallbackServerContext* context,
                                                         const v1::GetSamplerRequest* request,
                                                         v1::GetSamplerResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "GetSampler", *request);
  if (rpc.is_refused) return rpc.reactor;
  core_.queue->Read([this, request, response, finish = rpc.finish] {
    const auto record = Find(request->job());
    if (!record.ok()) return finish(record.status());
    const v1::DynamicMixture& spec = (*record)->job().spec().train().mixture().dynamic();
    response->set_job_id((*record)->job().job_id());
    *response->mutable_state() = (*record)->sampler();
    response->set_interval_steps(spec.interval_steps());
    response->set_rule(spec.rule());
    if (!JournalOf(**record).empty()) *response->mutable_newest() = JournalOf(**record).back();
    finish(absl::OkStatus());
  });
  return rpc.reactor;
}

grpc::ServerUnaryReactor* SamplerServiceImpl::ListDecisions(grpc::CallbackServerContext* context,
                                                            const v1::ListDecisionsRequest* request,
                                                            v1::ListDecisionsResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "ListDecisions", *request);
  if (rpc.is_refused) return rpc.reactor;
  core_.queue->Read([this, request, response, finish = rpc.finish] {
    const auto record = Find(request->job());
    if (!record.ok()) return finish(record.status());
    response->set_job_id((*record)->job().job_id());
    const Journal& journal = JournalOf(**record);
    response->mutable_decisions()->Assign(journal.begin(), journal.end());
    finish(absl::OkStatus());
  });
  return rpc.reactor;
}

grpc::ServerUnaryReactor* SamplerServiceImpl::PinWeights(grpc::CallbackServerContext* context,
                                                         const v1::PinWeightsRequest* request,
                                                         v1::PinWeightsResponse* response) {
  return ChangeSampler(
      context, "PinWeights", *request,
      [this, request, response](Turn& turn, v1::JobRecord& record, const std::string& user) {
        const absl::Status status = core_.sampler->Pin(
            turn, record, user, {request->weights().begin(), request->weights().end()});
        *response->mutable_state() = record.sampler();
        return status;
      });
}

grpc::ServerUnaryReactor* SamplerServiceImpl::UnpinWeights(grpc::CallbackServerContext* context,
                                                           const v1::UnpinWeightsRequest* request,
                                                           v1::UnpinWeightsResponse* response) {
  return ChangeSampler(context, "UnpinWeights", *request,
                       [this, response](Turn& turn, v1::JobRecord& record, const std::string&) {
                         const absl::Status status = core_.sampler->Unpin(turn, record);
                         *response->mutable_state() = record.sampler();
                         return status;
                       });
}

grpc::ServerUnaryReactor* SamplerServiceImpl::RollBackWeights(
    grpc::CallbackServerContext* context, const v1::RollBackWeightsRequest* request,
    v1::RollBackWeightsResponse* response) {
  return ChangeSampler(
      context, "RollBackWeights", *request,
      [this, request, response](Turn& turn, v1::JobRecord& record, const std::string& user) {
        const absl::Status status = core_.sampler->RollBack(turn, record, user, request->version());
        *response->mutable_state() = record.sampler();
        return status;
      });
}

grpc::ServerUnaryReactor* SamplerServiceImpl::ReplayDecisions(
    grpc::CallbackServerContext* context, const v1::ReplayDecisionsRequest* request,
    v1::ReplayDecisionsResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "ReplayDecisions", *request);
  if (rpc.is_refused) return rpc.reactor;
  core_.queue->Read([this, request, response, finish = rpc.finish] {
    const auto record = Find(request->job());
    if (!record.ok()) return finish(record.status());
    const Journal& journal = JournalOf(**record);
    response->set_job_id((*record)->job().job_id());
    response->set_decisions(static_cast<int64_t>(journal.size()));
    for (std::string& problem : Replay(journal)) response->add_mismatches(std::move(problem));
    finish(absl::OkStatus());
  });
  return rpc.reactor;
}

}  // namespace moe::coordinator
