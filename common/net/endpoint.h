// "HOST:PORT", and what may listen where.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace moe {

struct Endpoint {
  std::string host;  // "127.0.0.1", "::1", "localhost"
  uint16_t port = 0;
  std::string ToString() const;  // "[::1]:7070" for IPv6
};

// "127.0.0.1:7070", "[::1]:7070", "localhost:0". INVALID_ARGUMENT says what is expected.
absl::StatusOr<Endpoint> ParseEndpoint(const std::string& text);

// Whether only this machine can reach it: 127.0.0.0/8, ::1 or localhost.
bool IsLoopback(const Endpoint& endpoint);

// That the endpoint can be bound now: FAILED_PRECONDITION where the port is in use, with `flag` as
// the thing to change. OK for port 0.
absl::Status CheckPortFree(const Endpoint& endpoint, const std::string& flag);

// That something accepts connections there; closes the connection at once.
absl::Status TryConnect(const Endpoint& endpoint);

}  // namespace moe
