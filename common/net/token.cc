#include "common/net/token.h"

#include <fcntl.h>
#include <openssl/rand.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>

#include "common/file.h"
#include "common/net/sha256.h"
#include "common/status.h"

namespace moe {
namespace {

constexpr size_t kTokenIdBytes = 8;

template <typename Bytes>
std::string Hex(const Bytes& bytes, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += fmt::format("{:02x}", static_cast<uint8_t>(bytes[i]));
  return text;
}

}  // namespace

absl::StatusOr<std::string> DrawToken() {
  std::array<uint8_t, 32> secret;
  if (RAND_bytes(secret.data(), secret.size()) != 1) return Internal("no random bytes for a token");
  return "moe_" + Hex(secret, secret.size());
}

std::string TokenSha256(const std::string& token) { return Sha256(token); }

std::string TokenId(const std::string& token_sha256) { return Hex(token_sha256, kTokenIdBytes); }

absl::Status WriteSecretFile(const std::string& path, const std::string& content) {
  const std::string temporary = path + ".tmp";
  (void)::unlink(temporary.c_str());  // of a run that was killed; its mode is not to be trusted
  FileDescriptor fd(
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot write " + temporary);
  MOE_RETURN_IF_ERROR(WriteAll(fd.get(), content.data(), content.size(), temporary));
  if (::fsync(fd.get()) != 0) return ErrnoStatus(errno, "cannot sync " + temporary);
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    return ErrnoStatus(errno, fmt::format("cannot rename {} to {}", temporary, path));
  }
  return SyncDirectory(std::filesystem::path(path).parent_path().string());
}

}  // namespace moe
