#include "common/term/progress_bar.h"

#include <gtest/gtest.h>

namespace moe::term {
namespace {

TEST(ProgressBarTest, GrowsAndIsFullOnlyAtTheEnd) {
  EXPECT_EQ(ProgressBar(0, 10, 12), "[          ]");
  EXPECT_EQ(ProgressBar(1, 1000, 12), "[>         ]");
  EXPECT_EQ(ProgressBar(5, 10, 12), "[=====>    ]");
  EXPECT_EQ(ProgressBar(999, 1000, 12), "[=========>]");
  EXPECT_EQ(ProgressBar(1000, 1000, 12), "[==========]");
}

TEST(ProgressBarTest, UnknownTotalAndTinyWidth_StayInShape) {
  EXPECT_EQ(ProgressBar(7, 0, 6), "[    ]");
  EXPECT_EQ(ProgressBar(7, 10, 0), "[>]");
}

}  // namespace
}  // namespace moe::term
