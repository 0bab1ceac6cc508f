// What the shell learns (docs/cli.md). Scripts depend on these: never renumber.
#pragma once

#include "absl/status/status.h"

namespace moe::moectl {

enum class ExitCode : int {
  kDone = 0,
  kFailed = 1,
  // A command line or a job file that cannot be right.
  kUsage = 2,
  kNotFound = 3,
  kAuthentication = 4,
  // A watched or awaited job failed or was cancelled.
  kJobUnsuccessful = 5,
  kUnreachable = 6,
  // Ctrl-C, as shells report it.
  kInterrupted = 130,
};

// The exit code of a command that ended with `status`.
inline ExitCode ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return ExitCode::kDone;
    case absl::StatusCode::kInvalidArgument:
      return ExitCode::kUsage;
    case absl::StatusCode::kNotFound:
      return ExitCode::kNotFound;
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return ExitCode::kAuthentication;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return ExitCode::kUnreachable;
    default:
      return ExitCode::kFailed;
  }
}

}  // namespace moe::moectl
