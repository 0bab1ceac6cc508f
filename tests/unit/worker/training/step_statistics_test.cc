#include "worker/training/step_statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/crc32c.h"

namespace moe::training {
namespace {

using testing::ElementsAre;

TEST(Crc32cOfConcatenation, AnySplit_EqualsCrcOfTheWhole) {
  std::string text(10'000, '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 131 + i / 7);
  const uint32_t whole = Crc32c(text.data(), text.size());
  for (const size_t split : {0u, 1u, 4096u, 5000u, 9999u, 10'000u}) {
    const uint32_t first = Crc32c(text.data(), split);
    const uint32_t second = Crc32c(text.data() + split, text.size() - split);
    EXPECT_EQ(Crc32cOfConcatenation(first, second, text.size() - split), whole) << split;
  }
}

TEST(CombineMicroBatches, TwoMicroBatches_SumsRoutingAndKeepsSampleOrder) {
  const StatisticsShape shape = {.batch_samples = 2, .num_layers = 1, .num_experts = 3};
  const model::BatchResult results[2] = {
      {.sample_loss_sum = {10, 11},
       .num_targets = 8,
       .balance_loss = 0.25,
       .routing = {{.load = {1, 2, 3}, .importance = {0.5, 1.5, 2.0}, .dropped = 1}}},
      {.sample_loss_sum = {12, 13},
       .num_targets = 8,
       .balance_loss = 0.75,
       .routing = {{.load = {4, 0, 2}, .importance = {2.5, 0.5, 1.0}, .dropped = 3}}}};
  const std::vector<int64_t> tokens = {7, 8, 9, 10, 11};
  std::vector<double> records(2 * shape.numel());
  for (size_t i = 0; i < 2; ++i) {
    // Two tokens, then three.
    PackMicroBatch(shape, results[i], std::span(tokens).subspan(2 * i, 2 + i),
                   std::span(records).subspan(i * shape.numel(), shape.numel()));
  }
  const StepStatistics total = CombineMicroBatches(shape, records);
  EXPECT_THAT(total.sample_loss_sums, ElementsAre(10, 11, 12, 13));
  EXPECT_EQ(total.balance_loss, 0.5);
  EXPECT_THAT(total.routing.at(0).load, ElementsAre(5, 2, 5));
  EXPECT_THAT(total.routing.at(0).importance, ElementsAre(3.0, 2.0, 3.0));
  EXPECT_EQ(total.routing.at(0).dropped, 4);
  EXPECT_EQ(total.batch_crc32c, Crc32c(tokens.data(), 5 * sizeof(int64_t)));
}

}  // namespace
}  // namespace moe::training
