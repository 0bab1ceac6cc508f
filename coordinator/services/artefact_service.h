// ArtefactService: the catalogue (proto/moe/v1/artefact_service.proto).
#pragma once

#include "coordinator/core.h"
#include "moe/v1/artefact_service.grpc.pb.h"

namespace moe::coordinator {

class ArtefactServiceImpl final : public v1::ArtefactService::CallbackService {
 public:
  explicit ArtefactServiceImpl(const Core& core) : core_(core) {}

  grpc::ServerUnaryReactor* GetArtefact(grpc::CallbackServerContext* context,
                                        const v1::GetArtefactRequest* request,
                                        v1::GetArtefactResponse* response) override;
  grpc::ServerUnaryReactor* ListArtefacts(grpc::CallbackServerContext* context,
                                          const v1::ListArtefactsRequest* request,
                                          v1::ListArtefactsResponse* response) override;

 private:
  const Core core_;
};

}  // namespace moe::coordinator
