// Errors as values: absl::Status with messages made by fmt.
//
// What each code means here (docs/design/0001-spine.md):
//   INVALID_ARGUMENT     bad input; the message names the value, the limit and the fix
//   NOT_FOUND            no such job, artefact, file
//   ALREADY_EXISTS       same request id, different payload
//   FAILED_PRECONDITION  the object is in the wrong state
//   ABORTED              stale attempt or etag: somebody else has moved on
//   RESOURCE_EXHAUSTED   no space, no slots, too many
//   DATA_LOSS            a file or record is corrupt
//   UNAVAILABLE          worth a retry
//   INTERNAL             our bug
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace moe {

// One factory per code in use. Debian's Abseil has its own string_view, so a std::string_view does
// not convert: these go through std::string.
#define MOE_DEFINE_STATUS_FACTORY(Name, code)                                    \
  template <typename... Args>                                                    \
  absl::Status Name(fmt::format_string<Args...> format, Args&&... args) {        \
    return absl::Status(code, fmt::format(format, std::forward<Args>(args)...)); \
  }
MOE_DEFINE_STATUS_FACTORY(InvalidArgument, absl::StatusCode::kInvalidArgument)
MOE_DEFINE_STATUS_FACTORY(NotFound, absl::StatusCode::kNotFound)
MOE_DEFINE_STATUS_FACTORY(AlreadyExists, absl::StatusCode::kAlreadyExists)
MOE_DEFINE_STATUS_FACTORY(FailedPrecondition, absl::StatusCode::kFailedPrecondition)
MOE_DEFINE_STATUS_FACTORY(Aborted, absl::StatusCode::kAborted)
MOE_DEFINE_STATUS_FACTORY(ResourceExhausted, absl::StatusCode::kResourceExhausted)
MOE_DEFINE_STATUS_FACTORY(DataLoss, absl::StatusCode::kDataLoss)
MOE_DEFINE_STATUS_FACTORY(Unavailable, absl::StatusCode::kUnavailable)
MOE_DEFINE_STATUS_FACTORY(Unimplemented, absl::StatusCode::kUnimplemented)
MOE_DEFINE_STATUS_FACTORY(PermissionDenied, absl::StatusCode::kPermissionDenied)
MOE_DEFINE_STATUS_FACTORY(DeadlineExceeded, absl::StatusCode::kDeadlineExceeded)
MOE_DEFINE_STATUS_FACTORY(Cancelled, absl::StatusCode::kCancelled)
MOE_DEFINE_STATUS_FACTORY(Internal, absl::StatusCode::kInternal)
#undef MOE_DEFINE_STATUS_FACTORY

// `errno_value` as a status whose code a caller can act on: ENOENT is NOT_FOUND, ENOSPC and EDQUOT
// are RESOURCE_EXHAUSTED, EACCES and EROFS are PERMISSION_DENIED. `what` says what was tried.
absl::Status ErrnoStatus(int errno_value, const std::string& what);

// The same status with "context: " before its message. OK stays OK.
absl::Status Annotate(const absl::Status& status, const std::string& context);

// "INVALID_ARGUMENT: experts=7 does not divide ..." for logs.
std::string ToString(const absl::Status& status);
// The message as a std::string, for people: no code in front.
std::string Message(const absl::Status& status);

}  // namespace moe

#define MOE_CONCAT_INNER(a, b) a##b
#define MOE_CONCAT(a, b) MOE_CONCAT_INNER(a, b)

#define MOE_RETURN_IF_ERROR(expression)                             \
  do {                                                              \
    if (absl::Status moe_status = (expression); !moe_status.ok()) { \
      return moe_status;                                            \
    }                                                               \
  } while (false)

// MOE_ASSIGN_OR_RETURN(auto file, OpenFile(path));
#define MOE_ASSIGN_OR_RETURN(declaration, expression) \
  MOE_ASSIGN_OR_RETURN_IMPL(MOE_CONCAT(moe_or_, __LINE__), declaration, expression)
#define MOE_ASSIGN_OR_RETURN_IMPL(result, declaration, expression) \
  auto result = (expression);                                      \
  if (!result.ok()) return std::move(result).status();             \
  declaration = *std::move(result)
