// Connections that gRPC ends before they have a call: their handshakes fail. gRPC tells of these in
// its log and nowhere else, so this reads that log. What else gRPC warns of goes into ours.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace moe::coordinator {

struct FailedHandshake {
  std::string reason;  // one of HandshakeFailureReasons()
  absl::Status why;
};

// Every value of FailedHandshake::reason.
const std::vector<std::string>& HandshakeFailureReasons();

// Pure. `file`: the source file of gRPC that wrote the line (gRPC 1.51). nullopt: nothing of the
// kind.
std::optional<FailedHandshake> ReadGrpcLogLine(const std::string& file, const std::string& message);

// While it lives, hears of every failed handshake in this process. gRPC's log is one for all of a
// process: of several watches each hears everything.
class TransportWatch {
 public:
  // From any of gRPC's threads, in the middle of its work: must not call gRPC, and must not wait.
  using OnFailure = std::function<void(const FailedHandshake&)>;

  explicit TransportWatch(OnFailure on_failure);
  // No call of `on_failure` goes on, or comes, afterwards.
  ~TransportWatch();
  TransportWatch(const TransportWatch&) = delete;
  TransportWatch& operator=(const TransportWatch&) = delete;

 private:
  const OnFailure on_failure_;
};

}  // namespace moe::coordinator
