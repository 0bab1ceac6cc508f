#include "moectl/certificates.h"

#include <arpa/inet.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "common/file.h"
#include "common/net/tls.h"
#include "common/net/token.h"
#include "common/status.h"

namespace moe::moectl {
namespace {

constexpr int kAuthorityDays = 3650;
constexpr long kClockSkewSeconds = 300;  // machines whose clocks are a little behind
constexpr size_t kMaxNameLength = 64;

template <auto function>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    function(object);
  }
};
using Bio = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, Freed<X509_EXTENSION_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;

struct Identity {
  Certificate certificate;
  Key key;
};

// What a certificate says besides its name.
struct Facts {
  std::string name;
  std::string alternative_names;  // OpenSSL's form: "URI:...,DNS:...,IP:..."
  std::string usage;              // extendedKeyUsage; empty for the authority
  int days = 0;
};

absl::Status CryptoError(const std::string& what) {
  char text[256];
  ERR_error_string_n(ERR_get_error(), text, sizeof text);
  return Internal("{}: {}", what, text);
}

std::string Pem(const X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(bio.get(), certificate);
  const char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<size_t>(size));
}

std::string Pem(const EVP_PKEY* key) {
  const Bio bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr);
  const char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<size_t>(size));
}

absl::Status AddExtension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  if (extension == nullptr || X509_add_ext(certificate, extension.get(), -1) != 1) {
    return CryptoError(fmt::format("cannot put '{}' into a certificate", value));
  }
  return absl::OkStatus();
}

// Signed by `authority`; by itself where that is null.
absl::StatusOr<Identity> Make(const Facts& facts, const Identity* authority) {
  Identity made{Certificate(X509_new()), Key(EVP_EC_gen("P-256"))};
  X509* certificate = made.certificate.get();
  if (certificate == nullptr || made.key == nullptr) return CryptoError("cannot make a key");
  X509* issuer = authority == nullptr ? certificate : authority->certificate.get();

  unsigned char serial[16];
  if (RAND_bytes(serial, sizeof serial) != 1) return CryptoError("no random bytes");
  serial[0] &= 0x7f;  // positive
  std::unique_ptr<BIGNUM, Freed<BN_free>> number(BN_bin2bn(serial, sizeof serial, nullptr));
  BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate));
  X509_set_version(certificate, X509_VERSION_3);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -kClockSkewSeconds);
  X509_time_adj_ex(X509_getm_notAfter(certificate), facts.days, 0, nullptr);
  X509_set_pubkey(certificate, made.key.get());
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(facts.name.c_str()), -1, -1, 0);
  X509_set_issuer_name(certificate, X509_get_subject_name(issuer));

  const bool is_authority = authority == nullptr;
  MOE_RETURN_IF_ERROR(
      AddExtension(certificate, issuer, NID_basic_constraints,
                   is_authority ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE"));
  MOE_RETURN_IF_ERROR(
      AddExtension(certificate, issuer, NID_key_usage,
                   is_authority ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature"));
  MOE_RETURN_IF_ERROR(AddExtension(certificate, issuer, NID_subject_key_identifier, "hash"));
  if (!is_authority) {
    MOE_RETURN_IF_ERROR(AddExtension(certificate, issuer, NID_authority_key_identifier, "keyid"));
    MOE_RETURN_IF_ERROR(AddExtension(certificate, issuer, NID_ext_key_usage, facts.usage));
    MOE_RETURN_IF_ERROR(
        AddExtension(certificate, issuer, NID_subject_alt_name, facts.alternative_names));
  }
  EVP_PKEY* signer = is_authority ? made.key.get() : authority->key.get();
  if (X509_sign(certificate, signer, EVP_sha256()) == 0) return CryptoError("cannot sign");
  return made;
}

absl::StatusOr<Identity> ReadAuthority(const std::string& folder) {
  MOE_ASSIGN_OR_RETURN(const std::string certificate,
                       ReadFile(JoinPath(folder, kTlsAuthorityFile)));
  MOE_ASSIGN_OR_RETURN(const std::string key, ReadFile(JoinPath(folder, kTlsKeyFile)));
  const Bio certificate_bio(
      BIO_new_mem_buf(certificate.data(), static_cast<int>(certificate.size())));
  const Bio key_bio(BIO_new_mem_buf(key.data(), static_cast<int>(key.size())));
  Identity authority{
      Certificate(PEM_read_bio_X509(certificate_bio.get(), nullptr, nullptr, nullptr)),
      Key(PEM_read_bio_PrivateKey(key_bio.get(), nullptr, nullptr, nullptr))};
  if (authority.certificate == nullptr || authority.key == nullptr ||
      X509_check_private_key(authority.certificate.get(), authority.key.get()) != 1) {
    return FailedPrecondition(
        "{} holds no authority: {} and {} are damaged or do not belong together", folder,
        kTlsAuthorityFile, kTlsKeyFile);
  }
  return authority;
}

absl::Status MakePrivateFolder(const std::string& folder) {
  MOE_RETURN_IF_ERROR(MakeDirectories(folder));
  if (::chmod(folder.c_str(), 0700) != 0) return ErrnoStatus(errno, "cannot protect " + folder);
  return absl::OkStatus();
}

// No commas, colons or slashes: a name must not become more than a name in a certificate or a path.
absl::Status CheckName(const std::string& name, const std::string& flag) {
  const bool good = !name.empty() && name.size() <= kMaxNameLength && name.front() != '.' &&
                    std::all_of(name.begin(), name.end(), [](unsigned char c) {
                      return (c < 128 && std::isalnum(c)) || c == '.' || c == '_' || c == '-';
                    });
  if (good) return absl::OkStatus();
  return InvalidArgument("{} '{}' is not a name; use 1 to {} of a-z, A-Z, 0-9, '.', '_', '-'", flag,
                         name, kMaxNameLength);
}

bool IsAddress(const std::string& host) {
  in6_addr address;
  return ::inet_pton(AF_INET, host.c_str(), &address) == 1 ||
         ::inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

absl::StatusOr<std::string> HostNames(const std::vector<std::string>& hosts) {
  std::string names = "DNS:localhost,IP:127.0.0.1,IP:::1";
  for (const std::string& host : hosts) {
    if (!IsAddress(host)) MOE_RETURN_IF_ERROR(CheckName(host, "--host"));
    names += (IsAddress(host) ? ",IP:" : ",DNS:") + host;
  }
  return names;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> MakeCertificates(const CertificatePlan& plan) {
  MOE_ASSIGN_OR_RETURN(const std::string host_names, HostNames(plan.hosts));
  // The coordinator is a client of nobody; workers and users serve nobody.
  std::vector<std::pair<std::string, Facts>> wanted = {
      {"coordinator",
       {"coordinator", fmt::format("URI:{},{}", kCoordinatorUri, host_names), "serverAuth",
        plan.days}}};
  for (const std::string& name : plan.workers) {
    MOE_RETURN_IF_ERROR(CheckName(name, "--worker"));
    wanted.push_back(
        {"worker-" + name,
         {name, fmt::format("URI:{}{}", kWorkerUriPrefix, name), "clientAuth", plan.days}});
  }
  for (const std::string& name : plan.clients) {
    MOE_RETURN_IF_ERROR(CheckName(name, "--client"));
    wanted.push_back(
        {"client-" + name,
         {name, fmt::format("URI:{}{}", kClientUriPrefix, name), "clientAuth", plan.days}});
  }

  std::vector<std::string> written;
  const std::string authority_folder = JoinPath(plan.folder, "ca");
  const std::string authority_path = JoinPath(authority_folder, kTlsAuthorityFile);
  if (!FileExists(authority_path)) {
    MOE_ASSIGN_OR_RETURN(const Identity made,
                         Make({.name = "moe authority", .days = kAuthorityDays}, nullptr));
    MOE_RETURN_IF_ERROR(MakePrivateFolder(authority_folder));
    // The certificate last: where it is, the key is.
    MOE_RETURN_IF_ERROR(
        WriteSecretFile(JoinPath(authority_folder, kTlsKeyFile), Pem(made.key.get())));
    MOE_RETURN_IF_ERROR(WriteFileAtomically(authority_path, Pem(made.certificate.get())));
    written.push_back(authority_folder);
  }
  MOE_ASSIGN_OR_RETURN(const Identity authority, ReadAuthority(authority_folder));
  for (const auto& [name, facts] : wanted) {
    const std::string folder = JoinPath(plan.folder, name);
    const std::string path = JoinPath(folder, kTlsCertificateFile);
    if (FileExists(path) && !plan.renew) continue;
    MOE_ASSIGN_OR_RETURN(const Identity made, Make(facts, &authority));
    MOE_RETURN_IF_ERROR(MakePrivateFolder(folder));
    MOE_RETURN_IF_ERROR(
        WriteFileAtomically(JoinPath(folder, kTlsAuthorityFile), Pem(authority.certificate.get())));
    MOE_RETURN_IF_ERROR(WriteSecretFile(JoinPath(folder, kTlsKeyFile), Pem(made.key.get())));
    MOE_RETURN_IF_ERROR(WriteFileAtomically(path, Pem(made.certificate.get())));
    written.push_back(folder);
  }
  return written;
}

}  // namespace moe::moectl
