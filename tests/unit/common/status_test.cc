#include "common/status.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

namespace moe {
namespace {

TEST(Status, Factories_FormatTheMessage) {
  const absl::Status status = InvalidArgument("experts={} does not divide {}", 7, 1536);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(status), "experts=7 does not divide 1536");
  EXPECT_EQ(ToString(status), "INVALID_ARGUMENT: experts=7 does not divide 1536");
}

TEST(Status, ErrnoStatus_HasACodeToActOn) {
  const absl::Status status = ErrnoStatus(ENOENT, "cannot open /x");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Message(status), "cannot open /x: No such file or directory");
  EXPECT_EQ(ErrnoStatus(ENOSPC, "").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrnoStatus(EDQUOT, "").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrnoStatus(EACCES, "").code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(ErrnoStatus(EROFS, "").code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(ErrnoStatus(EIO, "").code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ErrnoStatus(ECONNREFUSED, "").code(), absl::StatusCode::kUnavailable);
}

TEST(Status, Annotate_PutsContextInFront) {
  EXPECT_EQ(Annotate(NotFound("no job"), "describe j1"), NotFound("describe j1: no job"));
  EXPECT_TRUE(Annotate(absl::OkStatus(), "describe j1").ok());
}

absl::StatusOr<std::unique_ptr<int>> Make(bool ok) {
  if (!ok) return Internal("not made");
  return std::make_unique<int>(5);
}
absl::Status Use(bool ok, int& result) {
  MOE_ASSIGN_OR_RETURN(const std::unique_ptr<int> made, Make(ok));
  MOE_ASSIGN_OR_RETURN(const std::unique_ptr<int> again, Make(true));
  result = *made + *again;
  MOE_RETURN_IF_ERROR(Aborted("end"));
  result = 0;
  return absl::OkStatus();
}

TEST(Status, Macros_AssignOrReturnTheFirstError) {
  int result = 0;
  EXPECT_EQ(Use(false, result), Internal("not made"));
  EXPECT_EQ(result, 0);
  EXPECT_EQ(Use(true, result), Aborted("end"));
  EXPECT_EQ(result, 10);
}

}  // namespace
}  // namespace moe
