#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "common/status.h"

namespace moe::coordinator {

// `value`, or `fallback` where it is 0; INVALID_ARGUMENT outside 1 to `limit`.
inline absl::StatusOr<int> PageSize(int32_t value, int fallback, int limit) {
  if (value == 0) return fallback;
  if (value < 0 || value > limit) {
    return InvalidArgument("page_size={} is out of range; use 1 to {}", value, limit);
  }
  return value;
}

}  // namespace moe::coordinator
