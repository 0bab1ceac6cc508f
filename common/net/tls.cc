#include "common/net/tls.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <cerrno>

#include "common/file.h"
#include "common/status.h"

namespace moe {
namespace {

constexpr unsigned kReloadSeconds = 2;

template <auto function>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    function(object);
  }
};
using Bio = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;

absl::StatusOr<Certificate> ReadCertificate(const std::string& path) {
  MOE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  Certificate certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  if (certificate == nullptr) return InvalidArgument("{} holds no PEM certificate", path);
  return certificate;
}

// Null where there is no password to give: a daemon has nobody to ask.
int NoPassword(char*, int, int, void*) { return 0; }

absl::StatusOr<Key> ReadKey(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, "cannot stat " + path);
  if ((info.st_mode & 077) != 0) {
    return FailedPrecondition("{} has mode {:o}, others may read it; chmod 600 {}", path,
                              info.st_mode & 0777, path);
  }
  MOE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassword, nullptr));
  if (key == nullptr) return InvalidArgument("{} holds no PEM key without a password", path);
  return key;
}

absl::Status CheckFiles(const std::string& folder) {
  const std::string path = JoinPath(folder, kTlsCertificateFile);
  MOE_ASSIGN_OR_RETURN(const Certificate authority,
                       ReadCertificate(JoinPath(folder, kTlsAuthorityFile)));
  MOE_ASSIGN_OR_RETURN(const Certificate certificate, ReadCertificate(path));
  MOE_ASSIGN_OR_RETURN(const Key key, ReadKey(JoinPath(folder, kTlsKeyFile)));
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return InvalidArgument("{} and {} do not belong together", path, kTlsKeyFile);
  }
  if (X509_verify(certificate.get(), X509_get0_pubkey(authority.get())) != 1) {
    return InvalidArgument("{} was not made by the authority in {}", path, kTlsAuthorityFile);
  }
  if (X509_cmp_current_time(X509_get0_notBefore(certificate.get())) > 0 ||
      X509_cmp_current_time(X509_get0_notAfter(certificate.get())) < 0) {
    return FailedPrecondition(
        "{} is not valid at this time; make a new one with moectl cert init --renew", path);
  }
  return absl::OkStatus();
}

std::shared_ptr<grpc::experimental::CertificateProviderInterface> Watch(const std::string& folder) {
  return std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
      JoinPath(folder, kTlsKeyFile), JoinPath(folder, kTlsCertificateFile),
      JoinPath(folder, kTlsAuthorityFile), kReloadSeconds);
}

}  // namespace

absl::Status CheckTlsFolder(const std::string& folder, const std::string& flag) {
  return Annotate(CheckFiles(folder), fmt::format("{} {}", flag, folder));
}

std::shared_ptr<grpc::ServerCredentials> TlsServerCredentials(const std::string& folder) {
  grpc::experimental::TlsServerCredentialsOptions options(Watch(folder));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  return grpc::experimental::TlsServerCredentials(options);
}

std::shared_ptr<grpc::ChannelCredentials> TlsChannelCredentials(const std::string& folder) {
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(Watch(folder));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(options);
}

}  // namespace moe
