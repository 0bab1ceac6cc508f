// A private authority and the certificates it makes, as files (common/net/tls.h).
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace moe::moectl {

struct CertificatePlan {
  std::string folder;
  // Names and addresses that the coordinator is called by; loopback is always added.
  std::vector<std::string> hosts;
  std::vector<std::string> workers;  // their --worker-id
  std::vector<std::string> clients;  // one per user or machine
  int days = 365;
  bool renew = false;  // make those anew that exist, under the same authority
};

// Makes what is missing below the folder: ca/ with the authority and its key, and one folder with
// ca.pem, cert.pem and key.pem for each of coordinator, worker-NAME and client-NAME. Keys are for
// this user only (mode 600). Returns the folders written, in order. INVALID_ARGUMENT for a name
// that cannot be in a certificate.
absl::StatusOr<std::vector<std::string>> MakeCertificates(const CertificatePlan& plan);

}  // namespace moe::moectl
