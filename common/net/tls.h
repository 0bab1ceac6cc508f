// TLS as all our programs speak it: both sides show a certificate of one private authority.
//
// A folder holds what one program needs: ca.pem (whom to trust), cert.pem and key.pem (who it is).
// `moectl cert init` makes them. New files are noticed within seconds and used for new connections.
//
// Who a certificate stands for is its one URI name: spiffe://moe/coordinator,
// spiffe://moe/worker/NAME or spiffe://moe/client/NAME.
#pragma once

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace moe {

inline constexpr char kTlsAuthorityFile[] = "ca.pem";
inline constexpr char kTlsCertificateFile[] = "cert.pem";
inline constexpr char kTlsKeyFile[] = "key.pem";

inline constexpr char kWorkerUriPrefix[] = "spiffe://moe/worker/";
inline constexpr char kClientUriPrefix[] = "spiffe://moe/client/";
inline constexpr char kCoordinatorUri[] = "spiffe://moe/coordinator";

// That the folder has the three files, the key belongs to the certificate and is for its owner
// only, and the certificate is good now and was made by the authority. Errors start with `flag`.
absl::Status CheckTlsFolder(const std::string& folder, const std::string& flag);

// Refuses clients without a certificate of the authority. Call CheckTlsFolder first.
std::shared_ptr<grpc::ServerCredentials> TlsServerCredentials(const std::string& folder);

// Refuses servers without a certificate of the authority for the name or address that is called.
// Call CheckTlsFolder first.
std::shared_ptr<grpc::ChannelCredentials> TlsChannelCredentials(const std::string& folder);

}  // namespace moe
