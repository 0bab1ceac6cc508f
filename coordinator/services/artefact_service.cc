#include "coordinator/services/artefact_service.h"

#include <charconv>
#include <limits>

#include "common/status.h"
#include "coordinator/services/unary.h"

namespace moe::coordinator {

grpc::ServerUnaryReactor* ArtefactServiceImpl::GetArtefact(grpc::CallbackServerContext* context,
                                                           const v1::GetArtefactRequest* request,
                                                           v1::GetArtefactResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "GetArtefact", *request);
  if (rpc.is_refused) return rpc.reactor;
  core_.queue->Read([this, request, response, finish = rpc.finish] {
    const v1::Artefact* artefact = core_.catalog->Find(request->artefact());
    if (artefact == nullptr) {
      return finish(NotFound("no artefact is called '{}'; list them with: moectl artefact list",
                             request->artefact()));
    }
    *response->mutable_artefact() = *artefact;
    finish(absl::OkStatus());
  });
  return rpc.reactor;
}

grpc::ServerUnaryReactor* ArtefactServiceImpl::ListArtefacts(
    grpc::CallbackServerContext* context, const v1::ListArtefactsRequest* request,
    v1::ListArtefactsResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "ListArtefacts", *request);
  if (rpc.is_refused) return rpc.reactor;
  core_.queue->Read([this, request, response, finish = rpc.finish] {
    const int page_size = request->page_size() == 0 ? 100 : request->page_size();
    if (page_size < 1 || page_size > 1000) {
      return finish(InvalidArgument("page_size={} is out of range; use 1 to 1000", page_size));
    }
    int64_t before = std::numeric_limits<int64_t>::max();
    const std::string& token = request->page_token();
    if (!token.empty()) {
      const char* end = token.data() + token.size();
      const auto [rest, error] = std::from_chars(token.data() + 1, end, before);
      if (token[0] != 'r' || error != std::errc() || rest != end) {
        return finish(InvalidArgument("page_token='{}' is not one that this server gave", token));
      }
    }
    *response = core_.catalog->List(*request, page_size, before);
    finish(absl::OkStatus());
  });
  return rpc.reactor;
}

}  // namespace moe::coordinator
