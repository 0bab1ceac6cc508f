#include "common/term/human.h"

#include <gtest/gtest.h>

#include "common/status.h"

namespace moe::term {
namespace {

TEST(FormatDurationTest, TwoUnitsAtMost) {
  EXPECT_EQ(FormatDuration(-3), "0s");
  EXPECT_EQ(FormatDuration(0.85), "850ms");
  EXPECT_EQ(FormatDuration(0.9999), "1.0s");
  EXPECT_EQ(FormatDuration(9.96), "10s");
  EXPECT_EQ(FormatDuration(59.6), "1m00s");
  EXPECT_EQ(FormatDuration(3 * 3600 + 5 * 60 + 59), "3h05m");
  EXPECT_EQ(FormatDuration(5 * 86400 + 3 * 3600), "5d03h");
}

TEST(FormatAgeTest, OneUnit) {
  EXPECT_EQ(FormatAge(0.4), "0s");
  EXPECT_EQ(FormatAge(119), "119s");
  EXPECT_EQ(FormatAge(120), "2m");
  EXPECT_EQ(FormatAge(2 * 3600), "2h");
  EXPECT_EQ(FormatAge(86400 * 9), "9d");
}

TEST(FormatBytesTest, NeverShowsAThousandOfAUnit) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(1024 * 1024 - 1), "1.0 MiB");
  EXPECT_EQ(FormatBytes(UINT64_MAX), "16.0 EiB");
}

TEST(FormatCountTest, ScalesByThousands) {
  EXPECT_EQ(FormatCount(812.4), "812");
  EXPECT_EQ(FormatCount(999.6), "1.0k");
  EXPECT_EQ(FormatCount(1'234'567), "1.2M");
}

TEST(ParseDurationTest, NumbersWithAndWithoutUnits) {
  EXPECT_EQ(*ParseDurationMillis("30"), 30'000);
  EXPECT_EQ(*ParseDurationMillis("500ms"), 500);
  EXPECT_EQ(*ParseDurationMillis("1.5h"), 5'400'000);
  EXPECT_EQ(*ParseDurationMillis("2m"), 120'000);
}

TEST(ParseDurationTest, AnythingElse_IsRefusedWithTheForms) {
  for (const char* text : {"", "s", "-1s", "5 s", "1d", "nan", "inf", "1e300h"}) {
    const auto millis = ParseDurationMillis(text);
    ASSERT_FALSE(millis.ok()) << text;
    EXPECT_NE(Message(millis.status()).find("such as 90s or 2m"), std::string::npos);
  }
}

}  // namespace
}  // namespace moe::term
