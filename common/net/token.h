// The tokens with which users prove who they are: "moe_" and 256 random bits in hexadecimal.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace moe {

absl::StatusOr<std::string> DrawToken();

// What is stored instead of a token, 32 bytes. A plain hash is enough: 256 random bits cannot be
// guessed, so the slowness and the salt that passwords need would protect nothing.
std::string TokenSha256(const std::string& token);

// Names a token where its secret must not be: the start of the hash in hexadecimal.
std::string TokenId(const std::string& token_sha256);

// A file for its owner only (mode 600), whole or not at all: for tokens and keys.
absl::Status WriteSecretFile(const std::string& path, const std::string& content);

}  // namespace moe
