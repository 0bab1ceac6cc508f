// The version of the protocol between coordinator and workers (proto/moe/v1/worker_service.proto).
#pragma once

#include <cstdint>

namespace moe {

inline constexpr int32_t kProtocolVersion = 1;

}  // namespace moe
