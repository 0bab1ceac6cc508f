// SamplerService: the domain weights of train jobs (proto/moe/v1/sampler_service.proto).
#pragma once

#include <functional>
#include <string>

#include "coordinator/core.h"
#include "coordinator/services/unary.h"
#include "moe/v1/sampler_service.grpc.pb.h"

namespace moe::coordinator {

class SamplerServiceImpl final : public v1::SamplerService::CallbackService {
 public:
  explicit SamplerServiceImpl(const Core& core) : core_(core) {}

  grpc::ServerUnaryReactor* GetSampler(grpc::CallbackServerContext* context,
                                       const v1::GetSamplerRequest* request,
                                       v1::GetSamplerResponse* response) override;
  grpc::ServerUnaryReactor* ListDecisions(grpc::CallbackServerContext* context,
                                          const v1::ListDecisionsRequest* request,
                                          v1::ListDecisionsResponse* response) override;
  grpc::ServerUnaryReactor* PinWeights(grpc::CallbackServerContext* context,
                                       const v1::PinWeightsRequest* request,
                                       v1::PinWeightsResponse* response) override;
  grpc::ServerUnaryReactor* UnpinWeights(grpc::CallbackServerContext* context,
                                         const v1::UnpinWeightsRequest* request,
                                         v1::UnpinWeightsResponse* response) override;
  grpc::ServerUnaryReactor* RollBackWeights(grpc::CallbackServerContext* context,
                                            const v1::RollBackWeightsRequest* request,
                                            v1::RollBackWeightsResponse* response) override;
  grpc::ServerUnaryReactor* ReplayDecisions(grpc::CallbackServerContext* context,
                                            const v1::ReplayDecisionsRequest* request,
                                            v1::ReplayDecisionsResponse* response) override;

 private:
  // The job, where its mixture is dynamic.
  absl::StatusOr<v1::JobRecord*> Find(const std::string& job) const;
  const Journal& JournalOf(const v1::JobRecord& record) const;
  // Runs `change` on the job of the request, which the caller may change.
  template <typename Request>
  grpc::ServerUnaryReactor* ChangeSampler(
      grpc::CallbackServerContext* context, const char* method, const Request& request,
      std::function<absl::Status(Turn&, v1::JobRecord&, const std::string& user)> change);

  const Core core_;
};

}  // namespace moe::coordinator
