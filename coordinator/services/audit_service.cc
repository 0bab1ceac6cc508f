#include "coordinator/services/audit_service.h"

#include "common/status.h"
#include "coordinator/services/page_size.h"
#include "coordinator/services/unary.h"

namespace moe::coordinator {
namespace {

absl::Status List(const storage::Store& store, const v1::ListAuditEntriesRequest& request,
                  v1::ListAuditEntriesResponse* response) {
  MOE_ASSIGN_OR_RETURN(const int page_size, PageSize(request.page_size(), 1000, 10'000));
  if (request.after_seq() < 0) {
    return InvalidArgument("after_seq={} is below 0; 0 starts with the first entry",
                           request.after_seq());
  }
  MOE_ASSIGN_OR_RETURN(const auto entries, store.ListAudit(request.after_seq(), page_size));
  response->mutable_entries()->Add(entries.begin(), entries.end());
  MOE_ASSIGN_OR_RETURN(const auto last, store.LastAudit());
  if (last.has_value()) {
    response->set_last_seq(last->seq());
    response->set_last_hash(last->hash());
  }
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* AuditServiceImpl::ListAuditEntries(
    grpc::CallbackServerContext* context, const v1::ListAuditEntriesRequest* request,
    v1::ListAuditEntriesResponse* response) {
  const UnaryRpc rpc = BeginUnary(core_, context, "ListAuditEntries", *request);
  if (rpc.is_refused) return rpc.reactor;
  core_.queue->Read([this, request, response, finish = rpc.finish] {
    finish(List(*core_.store, *request, response));
  });
  return rpc.reactor;
}

}  // namespace moe::coordinator
