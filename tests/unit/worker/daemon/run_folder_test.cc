#include "worker/daemon/run_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/file.h"
#include "common/json.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const AttemptKey kKey = {.job_id = "j17", .attempt = 2};

TEST(AttemptKey, NamesThatAreNotAttempts_AreRefused) {
  EXPECT_EQ(*AttemptKey::Parse("j17.2"), kKey);
  for (const char* name : {"", "j17", "j17.", ".2", "j17.0", "j17.-1", "j17.02", "j17.2x",
                           "../j1.1", "a/b.1", "..1", "j1.99999999999"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(AttemptKey::Parse(name).status())) << name;
  }
}

TEST(RunFolder, CreatedOne_IsListedWithItsRanks) {
  TemporaryFolder root;
  const RunFolder folder(root.path(), kKey);
  EXPECT_FALSE(folder.Exists());
  ASSERT_TRUE(folder.Create(R"({"lease_ttl_ms": 30000})", {10, 2}).ok());
  EXPECT_THAT(*ListRunFolders(root.path()), ElementsAre(kKey));
  EXPECT_THAT(*folder.Ranks(), ElementsAre(2, 10));
  EXPECT_EQ(*folder.LeaseTtlMs(), 30000);
  ASSERT_TRUE(folder.Remove().ok());
  EXPECT_THAT(*ListRunFolders(root.path()), IsEmpty());
}

TEST(RunFolder, LeftFromAnInterruptedCreate_IsRemovedAndOthersAreLeftAlone) {
  TemporaryFolder root;
  ASSERT_TRUE(MakeDirectories(root.File("j17.2/rank-0")).ok());
  ASSERT_TRUE(MakeDirectories(root.File("notes")).ok());
  EXPECT_THAT(*ListRunFolders(root.path()), IsEmpty());
  EXPECT_THAT(*ListDirectory(root.path()), ElementsAre("notes"));
}

TEST(RankFolder, ProcessAndExit_AreReadBackAndMissingIsNotAnError) {
  TemporaryFolder root;
  const RankFolder rank(root.path());
  EXPECT_FALSE(rank.ReadProcess()->has_value());
  EXPECT_FALSE(rank.ReadExit()->has_value());
  const ProcessIdentity process = {.pid = 4711, .start_time = 12345678901};
  ASSERT_TRUE(ReplaceFile(rank.process_path(), "4711 12345678901\n").ok());
  EXPECT_EQ(**rank.ReadProcess(), process);
  const ProcessExit exit = {.exit_code = -1, .signal = 9};
  ASSERT_TRUE(rank.WriteExit(exit).ok());
  EXPECT_EQ(**rank.ReadExit(), exit);
  root.Write("pid", "garbage");
  EXPECT_TRUE(absl::IsDataLoss(rank.ReadProcess().status()));
}

TEST(RankFolder, FailedReport_NeverFollowsReportsOfTheRankItself) {
  TemporaryFolder root;
  const RankFolder rank(root.path());
  ASSERT_TRUE(rank.WriteFailedReport("CAUSE_INTERNAL", "no such program", 1000).ok());
  const Json report = *ReadJsonFile(rank.reports_path());
  EXPECT_EQ(report["seq"], 1);
  EXPECT_EQ(report["failed"]["error"], "no such program");
  ASSERT_TRUE(rank.WriteFailedReport("CAUSE_STORAGE", "another", 2000).ok());
  EXPECT_EQ(*ReadJsonFile(rank.reports_path()), report);
}

}  // namespace
}  // namespace moe::worker
