#pragma once

#include <string>

namespace moe {

// SHA-256 of `bytes`, 32 bytes.
std::string Sha256(const std::string& bytes);

}  // namespace moe
