#include "coordinator/services/access_service.h"

#include "common/status.h"
#include "coordinator/access.h"
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
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const Finish finish = FinishUnary(core_.metrics, "CreateToken", reactor);
  core_.queue->Change([this, request, response, finish](Turn& turn) {
    absl::Status status = CheckAsked(core_);
    if (status.ok()) {
      auto token = core_.access->Create(turn, *request);
      status = token.status();
      if (token.ok()) *response->mutable_token() = *std::move(token);
    }
    turn.After([finish, status] { finish(status); });
  });
  return reactor;
}

grpc::ServerUnaryReactor* AccessServiceImpl::ListTokens(grpc::CallbackServerContext* context,
                                                        const v1::ListTokensRequest* request,
                                                        v1::ListTokensResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const Finish finish = FinishUnary(core_.metrics, "ListTokens", reactor);
  core_.queue->Read([this, response, finish] {
    if (const absl::Status status = CheckAsked(core_); !status.ok()) return finish(status);
    for (v1::Token& token : core_.access->List()) *response->add_tokens() = std::move(token);
    finish(absl::OkStatus());
  });
  return reactor;
}

grpc::ServerUnaryReactor* AccessServiceImpl::RevokeToken(grpc::CallbackServerContext* context,
                                                         const v1::RevokeTokenRequest* request,
                                                         v1::RevokeTokenResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const Finish finish = FinishUnary(core_.metrics, "RevokeToken", reactor);
  core_.queue->Change([this, request, response, finish](Turn& turn) {
    absl::Status status = CheckAsked(core_);
    if (status.ok()) {
      auto token = core_.access->Revoke(turn, request->token_id());
      status = token.status();
      if (token.ok()) *response->mutable_token() = *std::move(token);
    }
    turn.After([finish, status] { finish(status); });
  });
  return reactor;
}

}  // namespace moe::coordinator
