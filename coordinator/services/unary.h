// What all unary RPCs share: an answer is counted and finished in one place.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "common/net/grpc_status.h"
#include "coordinator/metrics.h"

namespace moe::coordinator {

// "NOT_FOUND".
inline std::string CodeName(const absl::Status& status) {
  return absl::StatusCodeToString(status.code());
}

// Answers an RPC: fill the response, then call this once, from any thread.
using Finish = std::function<void(const absl::Status&)>;

inline Finish FinishUnary(CoordinatorMetrics* metrics, const std::string& method,
                          grpc::ServerUnaryReactor* reactor) {
  return [metrics, method, reactor](const absl::Status& status) {
    metrics->OnRpc(method, CodeName(status));
    reactor->Finish(ToGrpc(status));
  };
}

}  // namespace moe::coordinator
