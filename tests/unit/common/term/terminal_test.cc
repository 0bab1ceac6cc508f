#include "common/term/terminal.h"

#include <gtest/gtest.h>

#include <sstream>

#include "common/term/live_region.h"

namespace moe::term {
namespace {

TEST(WantsColorTest, OnlyOnATerminalThatCan) {
  EXPECT_TRUE(WantsColor(true, nullptr, "xterm"));
  EXPECT_TRUE(WantsColor(true, "", "xterm"));
  EXPECT_FALSE(WantsColor(true, "1", "xterm"));
  EXPECT_FALSE(WantsColor(true, nullptr, "dumb"));
  EXPECT_FALSE(WantsColor(false, nullptr, "xterm"));
}

TEST(LiveRegionTest, SecondDraw_ReplacesTheFirstAndKeepsLinesAbove) {
  std::ostringstream out;
  LiveRegion region(out);
  region.Draw("", "one\ntwo\n");
  region.Draw("event\n", "three\n");
  region.Draw("", "four\n");
  EXPECT_EQ(out.str(),
            "one\ntwo\n"
            "\x1b[2A\r\x1b[Jevent\nthree\n"
            "\x1b[1A\r\x1b[Jfour\n");
}

}  // namespace
}  // namespace moe::term
