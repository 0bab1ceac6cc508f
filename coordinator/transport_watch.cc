#include "coordinator/transport_watch.h"

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

bool HasText(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

// What OpenSSL says in "... error:0A00009C:SSL routines::http request {tsi_code:10, ...}"; empty
// where it says nothing.
std::string TlsError(const std::string& message) {
  const std::string before = "SSL routines::";
  const size_t found = message.find(before);
  if (found == std::string::npos) return "";
  const size_t begin = found + before.size();
  return message.substr(begin, message.find(" {", begin) - begin);
}

FailedHandshake ReadHandshake(const std::string& message) {
  const auto failed = [](const char* reason, absl::Status why) {
    return FailedHandshake{.reason = reason, .why = std::move(why)};
  };
  if (HasText(message, "did not return a certificate")) {
    return failed("no_certificate", absl::UnauthenticatedError("the peer showed no certificate"));
  }
  if (HasText(message, "certificate verify failed")) {
    return failed(
        "bad_certificate",
        absl::UnauthenticatedError("the peer's certificate is not of the authority in ca.pem, or "
                                   "not valid at this time"));
  }
  if (HasText(message, "timed out")) {
    return failed("timeout", DeadlineExceeded("the peer did not finish its handshake in time"));
  }
  if (const std::string words = TlsError(message); !words.empty()) {
    if (HasText(words, "alert")) {
      return failed("refused_by_peer", Cancelled("the peer refused the handshake: {}", words));
    }
    return failed("not_tls",
                  InvalidArgument("the peer does not speak TLS as it should: {}", words));
  }
  return failed("gone", Cancelled("the peer went away in its handshake"));
}

class Watches {
 public:
  static Watches& Get() {
    static auto* const watches = new Watches;  // gRPC's threads may log until the very end
    return *watches;
  }

  void Add(const TransportWatch::OnFailure* on_failure) {
    absl::MutexLock lock(&mutex_);
    all_.insert(on_failure);
  }
  void Remove(const TransportWatch::OnFailure* on_failure) {
    absl::MutexLock lock(&mutex_);
    all_.erase(on_failure);
  }

 private:
  Watches() {
    // That a handshake failed is a matter of debugging to gRPC.
    gpr_set_log_verbosity(GPR_LOG_SEVERITY_DEBUG);
    gpr_set_log_function([](gpr_log_func_args* line) { Get().Hear(*line); });
  }

  void Hear(const gpr_log_func_args& line) {
    const std::string file = line.file;
    spdlog::debug("grpc: {}", line.message);
    if (const auto failed = ReadGrpcLogLine(file, line.message)) {
      absl::MutexLock lock(&mutex_);
      for (const TransportWatch::OnFailure* on_failure : all_) (*on_failure)(*failed);
    } else if (file.ends_with(kTlsFile)) {
      // Every failed handshake has such a line as well.
    } else if (line.severity == GPR_LOG_SEVERITY_ERROR) {
      spdlog::warn("grpc: {}", line.message);
    }
  }

  absl::Mutex mutex_;
  std::set<const TransportWatch::OnFailure*> all_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

const std::vector<std::string>& HandshakeFailureReasons() {
  static const std::vector<std::string> reasons = {"no_certificate",  "bad_certificate", "timeout",
                                                   "refused_by_peer", "not_tls",         "gone"};
  return reasons;
}

std::optional<FailedHandshake> ReadGrpcLogLine(const std::string& file,
                                               const std::string& message) {
  if (!file.ends_with(kHandshakeFile) || !message.starts_with(kHandshakeFailed)) {
    return std::nullopt;
  }
  return ReadHandshake(message);
}

TransportWatch::TransportWatch(OnFailure on_failure) : on_failure_(std::move(on_failure)) {
  Watches::Get().Add(&on_failure_);
}

TransportWatch::~TransportWatch() { Watches::Get().Remove(&on_failure_); }

}  // namespace moe::coordinator
