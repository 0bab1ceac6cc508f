// Who is calling, and whether they may: the gate in front of every RPC of a coordinator with TLS.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/security/auth_metadata_processor.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "coordinator/audit_journal.h"
#include "coordinator/rate_limiter.h"
#include "coordinator/turn.h"
#include "moe/v1/access_service.pb.h"
#include "storage/rocks/store.h"

namespace moe::coordinator {

// Knows all tokens by their hashes. Gates are asked on gRPC's threads; the tokens change on the
// loop's thread, and what a gate sees is durable.
class Access final : public grpc::AuthMetadataProcessor {
 public:
  using OnRefusal =
      std::function<void(const Caller& caller, const std::string& method, const absl::Status& why)>;

  using OnAdmission = std::function<void(const std::string& method)>;

  // `on_refusal` is told of every refusal, `on_admission` of every call that is let in, from any
  // thread; `method` is "GetJob", or "unknown". The request itself comes later, or never does.
  Access(RateLimiter::Options limits, OnRefusal on_refusal, OnAdmission on_admission)
      : on_refusal_(std::move(on_refusal)),
        on_admission_(std::move(on_admission)),
        limiter_(limits) {}

  // Before the server starts.
  absl::Status Load(const storage::Store& store);
  // Whether somebody could make tokens at `unix_millis`.
  bool HasAdmin(int64_t unix_millis) const;

  // On the loop's thread. The results are those of the RPCs in access_service.proto.
  absl::StatusOr<v1::Token> Create(Turn& turn, const v1::CreateTokenRequest& request);
  absl::StatusOr<v1::Token> Revoke(Turn& turn, const std::string& token_id);
  std::vector<v1::Token> List() const;

  // The caller of an RPC that the gate has let in, but for the address.
  Caller CallerOf(const grpc::ServerContextBase& context) const;

  // The gate. Quick, so gRPC need not hand it to another thread.
  bool IsBlocking() const override { return false; }
  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext* context,
                       OutputMetadata* consumed, OutputMetadata* response) override;

 private:
  // Whether `caller` may; fills in what the token says of them.
  absl::Status Check(const std::string& path, const std::string& authorization, Caller* caller);
  // The good token that was sent. `caller` gets its id even where it is not good.
  absl::StatusOr<v1::Token> Identify(const std::string& authorization, Caller* caller) const;
  bool HasAdminBut(const std::string& token_id, int64_t unix_millis) const;
  void Put(Turn& turn, const std::string& token_sha256, const v1::Token& token);

  const OnRefusal on_refusal_;
  const OnAdmission on_admission_;
  const RealClock clock_{};  // expiry is a matter of the world's time, and asked on any thread
  std::map<std::string, v1::Token>
      all_;  // by hash; loop thread only, ahead of the disk within a turn

  mutable absl::Mutex mutex_;
  std::map<std::string, v1::Token> tokens_ ABSL_GUARDED_BY(mutex_);  // by hash; durable
  RateLimiter limiter_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moe::coordinator
