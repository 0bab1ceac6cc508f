#include "coordinator/transport_watch.h"

#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <spdlog/spdlog.h>

#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/status.h"

namespace moe::coordinator {
namespace {

// One line for each connection that fails, at its end.
constexpr char kHandshakeFile[] = "chttp2_server.cc";
constexpr char kHandshakeFailed[] = "Handshaking failed: ";
// The same again, by the library beneath; an attacker could fill a log with them.
constexpr char kTlsFile[] = "ssl_transport_security.cc";
// How each call ends, where gRPC traces "call_error".
constexpr char kCallFile[] = "surface/call.cc";
constexpr char kTooLarge[] = "Received message larger than max";

bool HasText(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

// What follows `before`, up to the first of `ends`; empty where there is none.
std::string TextAfter(const std::string& text, const std::string& before, const char* ends) {
  const size_t found = text.find(before);
  if (found == std::string::npos) return "";
  const size_t begin = found + before.size();
  return text.substr(begin, text.find_first_of(ends, begin) - begin);
}

TransportRefusal ReadHandshake(const std::string& message) {
  const auto refusal = [&](const char* reason, absl::Status why) {
    return TransportRefusal{.kind = TransportRefusal::Kind::kHandshake,
                            .reason = reason,
                            .peer = TextAfter(message, "target_address:\"", "\""),
                            .why = std::move(why)};
  };
  if (HasText(message, "did not return a certificate")) {
    return refusal("no_certificate", absl::UnauthenticatedError("the peer showed no certificate"));
  }
  if (HasText(message, "certificate verify failed")) {
    return refusal(
        "bad_certificate",
        absl::UnauthenticatedError("the peer's certificate is not of the authority in ca.pem, or "
                                   "not valid at this time"));
  }
  if (HasText(message, "timed out")) {
    return refusal("timeout", DeadlineExceeded("the peer did not finish its handshake in time"));
  }
  // OpenSSL's "error:0A000418:SSL routines::tlsv1 alert unknown ca", and others.
  if (const std::string words = TextAfter(message, "SSL routines::", "{\"\n"); !words.empty()) {
    if (HasText(words, "alert")) {
      return refusal("refused_by_peer", Cancelled("the peer refused the handshake: {}", words));
    }
    return refusal("not_tls",
                   InvalidArgument("the peer does not speak TLS as it should: {}", words));
  }
  return refusal("gone", Cancelled("the peer went away in its handshake"));
}

class Watches {
 public:
  static Watches& Get() {
    static auto* const watches = new Watches;  // gRPC's threads may log until the very end
    return *watches;
  }

  void Add(const TransportWatch::OnRefusal* on_refusal) {
    absl::MutexLock lock(&mutex_);
    all_.insert(on_refusal);
  }
  void Remove(const TransportWatch::OnRefusal* on_refusal) {
    absl::MutexLock lock(&mutex_);
    all_.erase(on_refusal);
  }

 private:
  Watches() {
    // How a call ends is logged for a tracer only, and a handshake's failure as a matter of
    // debugging.
    grpc_tracer_set_enabled("call_error", 1);
    gpr_set_log_verbosity(GPR_LOG_SEVERITY_DEBUG);
    gpr_set_log_function([](gpr_log_func_args* line) { Get().Hear(*line); });
  }

  void Hear(const gpr_log_func_args& line) {
    const std::string file = line.file;
    if (const auto refusal = ReadGrpcLogLine(file, line.message)) {
      absl::MutexLock lock(&mutex_);
      for (const TransportWatch::OnRefusal* on_refusal : all_) (*on_refusal)(*refusal);
    } else if (file.ends_with(kCallFile) || file.ends_with(kTlsFile)) {
      // Every call has such a line, and every failed handshake.
    } else if (line.severity == GPR_LOG_SEVERITY_ERROR) {
      spdlog::warn("grpc: {}", line.message);
    } else {
      spdlog::debug("grpc: {}", line.message);
    }
  }

  absl::Mutex mutex_;
  std::set<const TransportWatch::OnRefusal*> all_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

const std::vector<std::string>& HandshakeFailureReasons() {
  static const std::vector<std::string> reasons = {"no_certificate",  "bad_certificate", "timeout",
                                                   "refused_by_peer", "not_tls",         "gone"};
  return reasons;
}

std::optional<TransportRefusal> ReadGrpcLogLine(const std::string& file,
                                                const std::string& message) {
  if (file.ends_with(kHandshakeFile) && message.starts_with(kHandshakeFailed)) {
    return ReadHandshake(message);
  }
  if (file.ends_with(kCallFile) && HasText(message, kTooLarge)) {
    return TransportRefusal{
        .kind = TransportRefusal::Kind::kRequest,
        .reason = "",
        .peer = TextAfter(message, "target_address:\"", "\""),
        .why = ResourceExhausted("a request above the limit: {} bytes",
                                 TextAfter(message, std::string(kTooLarge) + " (", ")"))};
  }
  return std::nullopt;
}

TransportWatch::TransportWatch(OnRefusal on_refusal) : on_refusal_(std::move(on_refusal)) {
  Watches::Get().Add(&on_refusal_);
}

TransportWatch::~TransportWatch() { Watches::Get().Remove(&on_refusal_); }

}  // namespace moe::coordinator
