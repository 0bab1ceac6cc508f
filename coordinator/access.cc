#include "coordinator/access.h"

#include <algorithm>
#include <cctype>
#include <tuple>
#include <utility>

#include "common/net/grpc_status.h"
#include "common/net/tls.h"
#include "common/net/token.h"
#include "common/status.h"
#include "coordinator/roles.h"
#include "coordinator/timestamp.h"

namespace moe::coordinator {
namespace {

constexpr size_t kHashBytes = 32;
constexpr size_t kMaxUserLength = 64;
constexpr char kBearer[] = "Bearer ";
// Lists and lookups walk all tokens; far above any cluster's users.
constexpr size_t kMaxTokens = 10'000;

absl::Status Unauthenticated(const std::string& message) {
  return absl::Status(absl::StatusCode::kUnauthenticated, message);
}

int64_t Millis(const google::protobuf::Timestamp& time) {
  return time.seconds() * 1000 + time.nanos() / 1'000'000;
}

bool IsExpired(const v1::Token& token, int64_t unix_millis) {
  return token.has_expire_time() && unix_millis >= Millis(token.expire_time());
}

bool IsUserName(const std::string& name) {
  return !name.empty() && name.size() <= kMaxUserLength &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return (c < 128 && std::isalnum(c)) || c == '.' || c == '_' || c == '@' || c == '-';
         });
}

std::string Value(const grpc::AuthMetadataProcessor::InputMetadata& metadata, const char* key) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return "";
  return std::string(found->second.data(), found->second.size());
}

// What the certificate says of the peer. A gate does not see the address.
Caller OfCertificate(const grpc::AuthContext& context) {
  Caller caller;
  const auto uris = context.FindPropertyValues("peer_spiffe_id");
  if (uris.size() != 1) return caller;
  caller.peer = std::string(uris.front().data(), uris.front().size());
  const std::string prefix = kWorkerUriPrefix;
  if (caller.peer.starts_with(prefix)) caller.worker_id = caller.peer.substr(prefix.size());
  return caller;
}

}  // namespace

absl::Status Access::Load(const storage::Store& store) {
  absl::MutexLock lock(&mutex_);
  MOE_RETURN_IF_ERROR(store.ForEachToken(
      [this](const std::string& hash, v1::Token token)
          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { tokens_[hash] = std::move(token); }));
  all_ = tokens_;
  return absl::OkStatus();
}

bool Access::HasAdminBut(const std::string& token_id, int64_t unix_millis) const {
  return std::any_of(all_.begin(), all_.end(), [&](const auto& entry) {
    const v1::Token& token = entry.second;
    return token.role() == v1::ROLE_ADMIN && !token.revoked() && token.token_id() != token_id &&
           !IsExpired(token, unix_millis);
  });
}

bool Access::HasAdmin(int64_t unix_millis) const { return HasAdminBut("", unix_millis); }

void Access::Put(Turn& turn, const std::string& token_sha256, const v1::Token& token) {
  all_[token_sha256] = token;
  turn.batch.PutToken(token_sha256, token);
  turn.After([this, token_sha256, token] {
    absl::MutexLock lock(&mutex_);
    tokens_[token_sha256] = token;
  });
}

absl::StatusOr<v1::Token> Access::Create(Turn& turn, const v1::CreateTokenRequest& request) {
  if (request.token_sha256().size() != kHashBytes) {
    return InvalidArgument("token_sha256 has {} bytes; a SHA-256 has {}",
                           request.token_sha256().size(), kHashBytes);
  }
  if (!IsUserName(request.user())) {
    return InvalidArgument(
        "user='{}' is not a name; use 1 to {} of a-z, A-Z, 0-9, '.', '_', '@', '-'",
        request.user().substr(0, kMaxUserLength), kMaxUserLength);
  }
  if (request.role() < v1::ROLE_VIEWER || request.role() > v1::ROLE_ADMIN) {
    return InvalidArgument("role={} is unknown; use viewer, submitter, operator or admin",
                           static_cast<int>(request.role()));
  }
  v1::Token token;
  token.set_token_id(TokenId(request.token_sha256()));
  token.set_user(request.user());
  token.set_role(request.role());
  if (request.has_expire_time()) *token.mutable_expire_time() = request.expire_time();
  if (const auto known = all_.find(request.token_sha256()); known != all_.end()) {
    *token.mutable_create_time() = known->second.create_time();
    if (token.SerializeAsString() == known->second.SerializeAsString()) return token;
    return AlreadyExists("the token {} exists with other facts", token.token_id());
  }
  if (IsExpired(token, turn.unix_millis)) {
    return InvalidArgument("expire_time is in the past; use a later one");
  }
  if (all_.size() >= kMaxTokens) {
    return ResourceExhausted("there are {} tokens, the limit", kMaxTokens);
  }
  *token.mutable_create_time() = ToTimestamp(turn.unix_millis);
  Put(turn, request.token_sha256(), token);
  return token;
}

absl::StatusOr<v1::Token> Access::Revoke(Turn& turn, const std::string& token_id) {
  const auto found = std::find_if(all_.begin(), all_.end(), [&](const auto& entry) {
    return entry.second.token_id() == token_id;
  });
  if (found == all_.end()) return NotFound("no token has the id '{}'", token_id);
  v1::Token token = found->second;
  if (token.revoked()) return token;
  if (!HasAdminBut(token_id, turn.unix_millis)) {
    return FailedPrecondition(
        "{} is the last good admin token; make another one first, or nobody could make tokens",
        token_id);
  }
  token.set_revoked(true);
  Put(turn, found->first, token);
  return token;
}

std::vector<v1::Token> Access::List() const {
  std::vector<v1::Token> tokens;
  for (const auto& [hash, token] : all_) tokens.push_back(token);
  std::sort(tokens.begin(), tokens.end(), [](const v1::Token& a, const v1::Token& b) {
    return std::make_tuple(a.user(), Millis(a.create_time()), a.token_id()) <
           std::make_tuple(b.user(), Millis(b.create_time()), b.token_id());
  });
  return tokens;
}

absl::StatusOr<v1::Token> Access::Identify(const std::string& authorization, Caller* caller) const {
  if (!authorization.starts_with(kBearer)) {
    return Unauthenticated(
        "no token; give moectl one with --token-file, MOECTL_TOKEN_FILE or MOECTL_TOKEN");
  }
  const std::string hash = TokenSha256(authorization.substr(sizeof(kBearer) - 1));
  caller->token_id = TokenId(hash);
  absl::MutexLock lock(&mutex_);
  const auto found = tokens_.find(hash);
  if (found == tokens_.end()) return Unauthenticated("the token is not known here");
  const v1::Token& token = found->second;
  caller->user = token.user();
  if (token.revoked()) return Unauthenticated(fmt::format("token {} is revoked", token.token_id()));
  if (IsExpired(token, clock_.UnixMillis())) {
    return Unauthenticated(fmt::format("token {} has expired", token.token_id()));
  }
  caller->role = token.role();
  return token;
}

absl::Status Access::Check(const std::string& path, const std::string& authorization,
                           Caller* caller) {
  const auto requirement = RequirementOf(path);
  if (!requirement.has_value()) return PermissionDenied("{} is open to nobody", path);
  switch (requirement->kind) {
    case Requirement::Kind::kAnyone:
      return absl::OkStatus();
    case Requirement::Kind::kWorker:
      if (!caller->worker_id.empty()) return absl::OkStatus();
      return PermissionDenied("{} is for certificates of workers ({}NAME)", path, kWorkerUriPrefix);
    case Requirement::Kind::kUser:
      break;
  }
  MOE_ASSIGN_OR_RETURN(const v1::Token token, Identify(authorization, caller));
  if (token.role() < requirement->role) {
    return PermissionDenied("{} needs the role {}; user {} has {}", path,
                            RoleName(requirement->role), token.user(), RoleName(token.role()));
  }
  absl::MutexLock lock(&mutex_);
  const double wait_seconds = limiter_.Take(token.user(), clock_.MonotonicMillis());
  if (wait_seconds == 0) return absl::OkStatus();
  return ResourceExhausted("user {} calls too often; retry after {:.1f} s", token.user(),
                           wait_seconds);
}

grpc::Status Access::Process(const InputMetadata& metadata, grpc::AuthContext* context,
                             OutputMetadata* /*consumed*/, OutputMetadata* /*response*/) {
  const std::string path = Value(metadata, ":path");
  Caller caller = OfCertificate(*context);
  const absl::Status status = Check(path, Value(metadata, "authorization"), &caller);
  const std::string method =
      RequirementOf(path).has_value() ? path.substr(path.rfind('/') + 1) : "unknown";
  if (status.ok()) {
    on_admission_(method);
  } else {
    on_refusal_(caller, method, status);
  }
  return ToGrpc(status);
}

Caller Access::CallerOf(const grpc::ServerContextBase& context) const {
  Caller caller = OfCertificate(*context.auth_context());
  // Whoever came in with a certificate alone has no token.
  (void)Identify(Value(context.client_metadata(), "authorization"), &caller);
  return caller;
}

}  // namespace moe::coordinator
