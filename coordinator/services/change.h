// What all RPCs that change something share: they run in a turn, are written into the audit journal
// with their outcome, and are answered once both are durable.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "coordinator/audit_journal.h"
#include "coordinator/core.h"
#include "coordinator/services/caller.h"
#include "coordinator/services/unary.h"
#include "coordinator/turn.h"

namespace moe::coordinator {

// `target`: what the request wants changed, as it says it; `change` may replace it by a better
// name.
template <typename Request>
grpc::ServerUnaryReactor* Change(
    const Core& core, grpc::CallbackServerContext* context, const char* method,
    const Request& request, std::string target,
    std::function<absl::Status(Turn&, const Caller&, std::string* target)> change) {
  const UnaryRpc rpc = BeginUnary(core, context, method, request);
  if (rpc.is_refused) return rpc.reactor;
  core.queue->Change([&core, caller = CallerOf(core, *context), method, target = std::move(target),
                      finish = rpc.finish, change = std::move(change)](Turn& turn) {
    std::string name = target;
    const absl::Status status = change(turn, caller, &name);
    core.audit->Record(turn, caller, method, name, status);
    turn.After([finish, status] { finish(status); });
  });
  return rpc.reactor;
}

}  // namespace moe::coordinator
