// Logging set-up, shared by all programs: one event a line on standard error, as text or JSON.
//
// Everything else uses spdlog directly: spdlog::info("job={} attempt={} started", id, attempt).
// Lines hold key=value pairs; no secrets, ever.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace moe {

struct LogOptions {
  std::string program;          // "moe-worker"
  std::string level = "info";   // trace, debug, info, warn, error
  std::string format = "text";  // text or json
};

// Replaces spdlog's default logger. INVALID_ARGUMENT for an unknown level or format.
absl::Status InitLogging(const LogOptions& options);

}  // namespace moe
