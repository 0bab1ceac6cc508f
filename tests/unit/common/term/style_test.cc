#include "common/term/style.h"

#include <gtest/gtest.h>

namespace moe::term {
namespace {

// "naive" with two dots over the i: five columns, six bytes.
constexpr char kAccented[] = "na\xc3\xafve";

TEST(StyleTest, PaintedTextTakesNoMoreColumns) {
  const std::string painted = Paint(kAccented, Style::kRed, true);
  EXPECT_NE(painted, kAccented);
  EXPECT_EQ(Plain(painted), kAccented);
  EXPECT_EQ(DisplayWidth(painted), 5u);
}

TEST(StyleTest, WithoutColor_TextIsUnchanged) {
  EXPECT_EQ(Paint("x", Style::kRed, false), "x");
  EXPECT_EQ(Paint("x", Style::kPlain, true), "x");
}

TEST(StyleTest, Truncate_CutsBetweenCharacters) {
  EXPECT_EQ(Truncate("abcdef", 6), "abcdef");
  EXPECT_EQ(Truncate("abcdef", 5), "ab...");
  EXPECT_EQ(Truncate("na\xc3\xafvety", 6), "na\xc3\xaf...");
  EXPECT_EQ(Truncate("abcdef", 2), "..");
}

}  // namespace
}  // namespace moe::term
