// The versions of the protocol between coordinator and workers (proto/moe/v1/worker_service.proto).
// A release speaks its own and the one before, so that a cluster is upgraded one program at a time,
// the coordinator first.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

namespace moe {

struct ProtocolVersions {
  int32_t oldest = 0;
  int32_t newest = 0;
};

// 2: a worker names the range that it speaks, and is told what is spoken.
inline constexpr ProtocolVersions kProtocolVersions = {.oldest = 1, .newest = 2};

// The newest version that both speak; nothing where there is none.
constexpr std::optional<int32_t> NewestCommon(const ProtocolVersions& a,
                                              const ProtocolVersions& b) {
  const int32_t newest = std::min(a.newest, b.newest);
  if (newest < std::max(a.oldest, b.oldest)) return std::nullopt;
  return newest;
}

}  // namespace moe
