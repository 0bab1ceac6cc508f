// AuditService: the audit journal (proto/moe/v1/audit_service.proto).
#pragma once

#include "coordinator/core.h"
#include "moe/v1/audit_service.grpc.pb.h"

namespace moe::coordinator {

class AuditServiceImpl final : public v1::AuditService::CallbackService {
 public:
  explicit AuditServiceImpl(const Core& core) : core_(core) {}

  grpc::ServerUnaryReactor* ListAuditEntries(grpc::CallbackServerContext* context,
                                             const v1::ListAuditEntriesRequest* request,
                                             v1::ListAuditEntriesResponse* response) override;

 private:
  const Core core_;
};

}  // namespace moe::coordinator
