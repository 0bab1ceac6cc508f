// What each RPC asks of its caller: one table for all services. What is not in it is refused.
#pragma once

#include <optional>
#include <string>

#include "moe/v1/access_service.pb.h"

namespace moe::coordinator {

struct Requirement {
  enum class Kind {
    kAnyone,  // with a certificate of the authority
    kUser,    // with a token of at least `role`
    kWorker,  // with the certificate of a worker
  };
  Kind kind = Kind::kUser;
  v1::Role role = v1::ROLE_ADMIN;
};

// `path` is gRPC's: "/moe.v1.JobService/GetJob". Nothing for an RPC that is not in the table.
std::optional<Requirement> RequirementOf(const std::string& path);

// "viewer".
std::string RoleName(v1::Role role);

}  // namespace moe::coordinator
