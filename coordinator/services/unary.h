// What all unary RPCs share: a request that is too large is refused, and an answer counted and
// finished, in one place.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "common/net/grpc_status.h"
#include "common/status.h"
#include "coordinator/audit_journal.h"
#include "coordinator/core.h"
#include "coordinator/metrics.h"
#include "coordinator/services/caller.h"

namespace moe::coordinator {

// Of a request, or a message of a stream. gRPC takes messages of twice the size (server.cc): what
// is above its own limit it refuses by itself and tells nobody.
inline constexpr size_t kMaxRequestBytes = size_t{16} << 20;

// RESOURCE_EXHAUSTED where a request of so many bytes is too large.
inline absl::Status CheckRequestSize(size_t bytes) {
  if (bytes <= kMaxRequestBytes) return absl::OkStatus();
  return ResourceExhausted("the request has {} bytes, and the limit is {}; ask for less at a time",
                           bytes, kMaxRequestBytes);
}

// "NOT_FOUND".
inline std::string CodeName(const absl::Status& status) {
  return absl::StatusCodeToString(status.code());
}

// Answers an RPC: fill the response, then call this once, from any thread.
using Finish = std::function<void(const absl::Status&)>;

struct UnaryRpc {
  grpc::ServerUnaryReactor* reactor = nullptr;
  Finish finish;
  bool is_refused = false;  // and finished
};

// Every unary RPC begins with this, and goes no further where it is refused.
template <typename Request>
UnaryRpc BeginUnary(const Core& core, grpc::CallbackServerContext* context,
                    const std::string& method, const Request& request) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const Finish finish = [metrics = core.metrics, method, reactor](const absl::Status& status) {
    metrics->OnRpc(method, CodeName(status));
    reactor->Finish(ToGrpc(status));
  };
  const absl::Status size = CheckRequestSize(request.ByteSizeLong());
  if (!size.ok()) {
    core.audit->Refuse(CallerOf(core, *context), method, "", size);
    finish(size);
  }
  return {.reactor = reactor, .finish = finish, .is_refused = !size.ok()};
}

}  // namespace moe::coordinator
