#include "common/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <functional>

#include "common/json.h"
#include "common/status.h"

namespace moe {
namespace {

using testing::HasSubstr;

std::string CapturedLog(const LogOptions& options, const std::function<void()>& log) {
  testing::internal::CaptureStderr();
  const absl::Status status = InitLogging(options);
  EXPECT_TRUE(status.ok()) << ToString(status);
  log();
  return testing::internal::GetCapturedStderr();
}

TEST(InitLogging, Text_IsOneLineWithLevelAndProgram) {
  const std::string text = CapturedLog({.program = "moe-test"}, [] {
    spdlog::debug("quiet");
    spdlog::info("job={} started", 7);
  });
  EXPECT_THAT(text, testing::ContainsRegex(
                        "^[0-9-]+T[0-9:.]+[+-][0-9:]+ info moe-test\\[[0-9]+\\] job=7 started\n$"));
}

TEST(InitLogging, Json_IsOneObjectALineWhateverTheMessage) {
  const std::string message = "quote \" newline \n tab \t";
  const std::string text =
      CapturedLog({.program = "moe-test", .level = "debug", .format = "json"}, [&] {
        spdlog::debug(message);
        spdlog::warn("not UTF-8: \xff");
      });
  const size_t end = text.find('\n');
  ASSERT_NE(end, std::string::npos);
  const auto first = ParseJson(text.substr(0, end), "first line");
  ASSERT_TRUE(first.ok()) << ToString(first.status());
  EXPECT_EQ((*first)["message"], message);
  EXPECT_EQ((*first)["level"], "debug");
  EXPECT_EQ((*first)["program"], "moe-test");
  const auto second = ParseJson(text.substr(end + 1), "second line");
  ASSERT_TRUE(second.ok()) << ToString(second.status());
  EXPECT_EQ((*second)["message"], "not UTF-8: \xEF\xBF\xBD");
}

TEST(InitLogging, UnknownLevelOrFormat_IsRefusedWithTheChoice) {
  EXPECT_EQ(InitLogging({.program = "p", .level = "loud"}),
            InvalidArgument("unknown log level 'loud'; use trace, debug, info, warn or error"));
  EXPECT_EQ(InitLogging({.program = "p", .format = "xml"}),
            InvalidArgument("unknown log format 'xml'; use text or json"));
}

}  // namespace
}  // namespace moe
