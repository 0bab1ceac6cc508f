#include "common/nearest.h"

#include <gtest/gtest.h>

namespace moe {
namespace {

TEST(EditDistanceTest, CountsInsertionsDeletionsReplacementsAndSwaps) {
  EXPECT_EQ(EditDistance("steps", "steps"), 0u);
  EXPECT_EQ(EditDistance("stpes", "steps"), 1u);
  EXPECT_EQ(EditDistance("step", "steps"), 1u);
  EXPECT_EQ(EditDistance("", "abc"), 3u);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3u);
}

TEST(NearestTest, TypingError_FindsTheWord) {
  EXPECT_EQ(Nearest("jbo", {"artefact", "job", "worker"}), "job");
  EXPECT_EQ(Nearest("learning_rates", {"warmup_steps", "learning_rate"}), "learning_rate");
}

TEST(NearestTest, BeginningOfAWord_FindsIt) {
  EXPECT_EQ(Nearest("desc", {"list", "describe"}), "describe");
}

TEST(NearestTest, NothingSimilar_FindsNothing) {
  EXPECT_EQ(Nearest("colour", {"steps", "seed"}), "");
  EXPECT_EQ(Nearest("x", {}), "");
}

}  // namespace
}  // namespace moe
