#include "common/net/sha256.h"

#include <openssl/evp.h>

#include <cstdint>

#include "common/check.h"

namespace moe {

std::string Sha256(const std::string& bytes) {
  std::string hash(32, '\0');
  unsigned size = 0;
  MOE_CHECK(EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<uint8_t*>(hash.data()), &size,
                       EVP_sha256(), nullptr) == 1);
  return hash;
}

}  // namespace moe
