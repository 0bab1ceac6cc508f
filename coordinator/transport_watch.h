// What gRPC refuses before there is a call that a service could see: a connection whose handshake
// fails, a request above the message limit. gRPC tells of these in its log and nowhere else, so
// this reads that log. What else gRPC warns of goes into ours.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace moe::coordinator {

struct TransportRefusal {
  enum class Kind { kHandshake, kRequest };
  Kind kind = Kind::kHandshake;
  std::string reason;  // of a handshake: one of HandshakeFailureReasons()
  std::string peer;    // "ipv4:10.0.0.7:40312", or empty where gRPC does not say
  absl::Status why;
};

// Every value of TransportRefusal::reason.
const std::vector<std::string>& HandshakeFailureReasons();

// Pure. `file`: the source file of gRPC that wrote the line (gRPC 1.51). nullopt: nothing of the
// kind.
std::optional<TransportRefusal> ReadGrpcLogLine(const std::string& file,
                                                const std::string& message);

// While it lives, hears of every refusal in this process. gRPC's log is one for all of a process:
// of several watches each hears everything.
class TransportWatch {
 public:
  // From any of gRPC's threads, in the middle of its work: must not call gRPC, and must not wait.
  using OnRefusal = std::function<void(const TransportRefusal&)>;

  explicit TransportWatch(OnRefusal on_refusal);
  // No call of `on_refusal` goes on, or comes, afterwards.
  ~TransportWatch();
  TransportWatch(const TransportWatch&) = delete;
  TransportWatch& operator=(const TransportWatch&) = delete;

 private:
  const OnRefusal on_refusal_;
};

}  // namespace moe::coordinator
