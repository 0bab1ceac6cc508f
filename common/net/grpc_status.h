// Status and grpc::Status: the one place that turns one into the other. The codes are the same.
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace moe {

grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace moe
