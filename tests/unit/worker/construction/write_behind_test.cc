#include "worker/construction/write_behind.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "common/status.h"

namespace moe::construction {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::Status Append(WriteBehind& writer, const std::string& text) {
  kernels::Buffer<uint8_t> buffer;
  std::copy(text.begin(), text.end(), buffer.Reserve(64));
  return writer.Append(buffer, text.size());
}

std::string Text(const uint8_t* bytes, uint64_t size) { return {bytes, bytes + size}; }

TEST(WriteBehind, Pieces_AreWrittenInOrder) {
  std::vector<std::string> written;
  WriteBehind writer([&](const uint8_t* bytes, uint64_t size) {
    written.push_back(Text(bytes, size));
    return absl::OkStatus();
  });
  for (const char* text : {"one", "two", "", "four"}) ASSERT_TRUE(Append(writer, text).ok());
  ASSERT_TRUE(writer.Finish().ok());
  EXPECT_THAT(written, ElementsAre("one", "two", "", "four"));
}

TEST(WriteBehind, SlowWrite_LeavesTheCallerFree) {
  absl::Notification caller_went_on;
  WriteBehind writer([&](const uint8_t*, uint64_t) {
    caller_went_on.WaitForNotification();
    return absl::OkStatus();
  });
  ASSERT_TRUE(Append(writer, "slow").ok());
  caller_went_on.Notify();  // never reached where Append waits for its own piece
  EXPECT_TRUE(writer.Finish().ok());
}

TEST(WriteBehind, FailedWrite_IsReportedAndTheLast) {
  int writes = 0;
  WriteBehind writer([&](const uint8_t*, uint64_t) {
    ++writes;
    return ResourceExhausted("disk full");
  });
  ASSERT_TRUE(Append(writer, "lost").ok());
  EXPECT_THAT(ToString(writer.Finish()), HasSubstr("disk full"));
  EXPECT_THAT(ToString(Append(writer, "late")), HasSubstr("disk full"));
  EXPECT_THAT(ToString(writer.Finish()), HasSubstr("disk full"));
  EXPECT_EQ(writes, 1);
}

TEST(WriteBehind, Destroyed_HasWrittenWhatItTook) {
  std::string written;
  {
    WriteBehind writer([&](const uint8_t* bytes, uint64_t size) {
      written = Text(bytes, size);
      return absl::OkStatus();
    });
    ASSERT_TRUE(Append(writer, "last").ok());
  }
  EXPECT_EQ(written, "last");
}

}  // namespace
}  // namespace moe::construction
