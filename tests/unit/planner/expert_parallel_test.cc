#include "planner/expert_parallel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "tests/published_shapes.h"

namespace moe::planner {
namespace {

using published::SmolLm2;
using published::Split;
using testing::AllOf;
using testing::HasSubstr;

TEST(ExpertParallel, GroupsThatDivideTheRanks_AreAccepted) {
  EXPECT_TRUE(CheckExpertGroups(1, 7).ok());
  EXPECT_TRUE(CheckExpertGroups(4, 8).ok());
  EXPECT_THAT(Message(CheckExpertGroups(3, 8)),
              AllOf(HasSubstr("parallel.expert=3"), HasSubstr("8 slots"),
                    HasSubstr("use one of 1, 2, 4, 8")));
}

TEST(ExpertParallel, SharesThatAreEqual_AreAccepted) {
  const artefacts::ModelConfig model = Split(SmolLm2(), 16, 4);
  EXPECT_TRUE(CheckExpertShares(model, 8).ok());
  EXPECT_THAT(Message(CheckExpertShares(model, 5)), HasSubstr("use one of 1, 2, 4, 8, 16"));
  EXPECT_TRUE(CheckExpertShares(SmolLm2(), 1).ok());
  EXPECT_THAT(Message(CheckExpertShares(SmolLm2(), 2)), HasSubstr("the model is dense"));
}

// Shares end where the arena's alignment allows: eight experts of 10 x 16 are 1280 weights.
TEST(ExpertParallel, SharesThatAreNotAligned_AreRefused) {
  artefacts::ModelConfig model = SmolLm2();
  model.hidden_size = 16;
  model.moe = {.num_experts = 8, .top_k = 2, .expert_width = 10};
  EXPECT_TRUE(CheckExpertShares(model, 4).ok());
  EXPECT_THAT(Message(CheckExpertShares(model, 8)),
              AllOf(HasSubstr("8 experts of 10 x 16"), HasSubstr("use one of 1, 2, 4")));
}

TEST(ExpertParallel, Largest_DividesRanksAndExperts) {
  EXPECT_EQ(LargestExpertParallel(Split(SmolLm2(), 16, 4), 24), 8);
  EXPECT_EQ(LargestExpertParallel(SmolLm2(), 24), 1);
}

}  // namespace
}  // namespace moe::planner
