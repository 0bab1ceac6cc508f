// Base64 (RFC 4648, with padding), for bytes inside JSON.
#pragma once

#include <string>

#include "absl/strings/escaping.h"

namespace moe::coordinator {

inline std::string EncodeBase64(const std::string& bytes) {
  std::string text;
  absl::Base64Escape(bytes, &text);
  return text;
}

}  // namespace moe::coordinator
