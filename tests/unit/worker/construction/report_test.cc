#include "worker/construction/report.h"

#include <gtest/gtest.h>

namespace moe::construction {
namespace {

TEST(ReportTest, OverlapUnusedAndCoverage_AreSharesOfNeuronsAndImportance) {
  Partition partition;
  partition.layers.resize(2);  // layer 0 stays dense
  partition.layers[1].experts = {{0, 1}, {1, 2}};
  partition.layers[1].shared = {3, 4};
  const std::vector<Scores> scores = {{}, {{4, 2, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 5}}};
  const std::vector<LayerReport> report = ReportPartition(partition, 6, &scores);
  ASSERT_EQ(report.size(), 1u);
  EXPECT_EQ(report[0].layer, 1);
  EXPECT_EQ(report[0].num_experts, 2);
  EXPECT_EQ(report[0].expert_width, 2);
  EXPECT_EQ(report[0].shared_width, 2);
  EXPECT_DOUBLE_EQ(report[0].overlap, 0.5);
  EXPECT_DOUBLE_EQ(report[0].unused, 1.0 / 6);
  EXPECT_DOUBLE_EQ(report[0].coverage, (8.0 / 10 + 4.0 / 10) / 2);
}

TEST(ReportTest, Table_HasATitleRowAndDashesForWhatIsNotKnown) {
  const Partition partition = IndependentRandom(2, 12, 3, 1);
  const Json table = ReportTable(ReportPartition(partition, 12, nullptr), {4.0, 3.5});
  ASSERT_EQ(table.size(), 3u);
  EXPECT_EQ(table[0][0], "LAYER");
  EXPECT_EQ(table[2], Json({"1", 3, 4, 0, 0.0, 0.0, "-", 3.5}));
}

}  // namespace
}  // namespace moe::construction
