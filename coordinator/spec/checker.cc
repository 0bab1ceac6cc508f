#include "coordinator/spec/checker.h"

#include <algorithm>

namespace moe::coordinator {

bool IsName(const std::string& name) {
  if (name.empty() || name.size() > kMaxNameLength) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

}  // namespace moe::coordinator
