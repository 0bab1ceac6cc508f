#include "common/term/table.h"

#include <gtest/gtest.h>

namespace moe::term {
namespace {

Table Jobs() {
  Table table(
      {{"JOB"}, {"STEPS", Align::kRight}, {.title = "REASON", .shrinkable = true}, {"AGE"}});
  table.AddRow({"j1", "60", "waits for two slots on one worker", "5m"});
  table.AddRow({"j12", "", "", Cell("2h", Style::kGreen)});
  return table;
}

TEST(TableTest, WithoutLimit_ColumnsAreAsWideAsTheirCells) {
  EXPECT_EQ(Jobs().Render({}),
            "JOB   STEPS  REASON                             AGE\n"
            "j1       60  waits for two slots on one worker  5m\n"
            "j12  <none>  <none>                             2h\n");
}

TEST(TableTest, NarrowTerminal_CutsTheShrinkableColumn) {
  EXPECT_EQ(Jobs().Render({.width = 32}),
            "JOB   STEPS  REASON          AGE\n"
            "j1       60  waits for t...  5m\n"
            "j12  <none>  <none>          2h\n");
}

TEST(TableTest, Color_IsOutsideOfThePadding) {
  Table table({{"A"}, {"B"}});
  table.AddRow({Cell("x", Style::kGreen), "y"});
  EXPECT_EQ(table.Render({.color = true, .header = false}), "\x1b[32mx\x1b[0m  y\n");
}

TEST(TableTest, LineBreakInACell_DoesNotTearTheRow) {
  Table table({{"A"}});
  table.AddRow({"one\ntwo"});
  EXPECT_EQ(table.Render({.header = false}), "one two\n");
}

}  // namespace
}  // namespace moe::term
