#include "coordinator/services/access_service.h"

#include "common/status.h"
#include "coordinator/access.h"
#include "coordinator/services/change.h"
#include "coordinator/services/unary.h"

namespace moe::coordinator {
namespace {

// Where nobody shows a token there is no point in making one.
absl::Status CheckAsked(const Core& core) {
  if (core.access != nullptr) return absl::OkStatus();
  return FailedPrecondition(
      "this coordinator serves on loopback without TLS and asks for no tokens; start it with "
      "--tls-dir (see moectl cert init --help)");
}

}  // namespace

grpc::ServerUnaryReactor* AccessServiceImpl::CreateToken(grpc::CallbackServerContext* context,
                                                         const v1::CreateTokenRequest* request,
                                                         v1::CreateTokenResponse* response) {
  return Change(
      core_, context, "CreateToken", *request, request->user(),
      [this, request, response](Turn& turn, const Caller&, std::string* target) -> absl::Status {
        MOE_RETURN_IF_ERROR(CheckAsked(core_));
        MOE_ASSIGN_OR_RETURN(*response->mutable_token(), core_.access->Create(turn, *request));
        *target = fmt::format("{} of {}", response->token().token_id(), response->token().user());
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* AccessServiceImpl::ListTokens(grpc::CallbackServerContext* context,
                                                        const v1::ListTokensRequest* request,
                                                        v1::ListTokensResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "ListTokens", *request);
  if (rpc.is_refused) return rpc.reactor;
  core_.queue->Read([this, response, finish = rpc.finish] {
    if (const absl::Status status = CheckAsked(core_); !status.ok()) return finish(status);
    for (v1::Token& token : core_.access->List()) *response->add_tokens() = std::move(token);
    finish(absl::OkStatus());
  });
  return rpc.reactor;
}

grpc::ServerUnaryReactor* AccessServiceImpl::RevokeToken(grpc::CallbackServerContext* context,
                                                         const v1::RevokeTokenRequest* request,
                                                         v1::RevokeTokenResponse* response) {
  return Change(core_, context, "RevokeToken", *request, request->token_id(),
                [this, request, response](Turn& turn, const Caller&, std::string*) -> absl::Status {
                  MOE_RETURN_IF_ERROR(CheckAsked(core_));
                  MOE_ASSIGN_OR_RETURN(*response->mutable_token(),
                                       core_.access->Revoke(turn, request->token_id()));
                  return absl::OkStatus();
                });
}

}  // namespace moe::coordinator
