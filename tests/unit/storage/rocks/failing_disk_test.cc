// What happens to a store whose disk takes no more: every call says so, none ends the process, and
// what was acknowledged is there afterwards.
#include "tests/unit/storage/rocks/failing_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>

#include "common/status.h"
#include "storage/rocks/database.h"
#include "storage/rocks/store.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::storage {
namespace {

using ::testing::HasSubstr;

class FailingDiskTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Store>> Open(const std::string& name = "store") {
    return Store::Open({.path = folder_.File(name), .env = disk_.env()});
  }
  // A job's attempt comes, or goes.
  static Batch Comes(uint64_t job) {
    Batch batch;
    v1::JobRecord record;
    record.mutable_job()->set_job_id("j" + std::to_string(job));
    batch.PutJob(job, record);
    batch.PutAttempt(job, 1, {});
    batch.PutRank({job, 1, 0}, {});
    batch.PutRendezvous(job, 1, "gloo/0", std::string(2000, 'x'));
    return batch;
  }
  static Batch Goes(uint64_t job) {
    Batch batch;
    batch.DeleteAttempt(job, 1);
    return batch;
  }

  TemporaryFolder folder_;
  FailingDisk disk_;
};

TEST_F(FailingDiskTest, FullAtAnyWrite_IsReportedAndLosesNothing) {
  int refused_opens = 0, refused_commits = 0;
  for (int writes = 0; writes < 260; writes += 9) {
    const std::string name = fmt::format("store-{}", writes);
    std::set<uint64_t> acknowledged;
    disk_.TakeOnly(writes);
    if (const auto store = Open(name); store.ok()) {
      for (uint64_t job = 1; job <= 30; ++job) {
        const absl::Status status = (*store)->Commit(Comes(job));
        if (!status.ok()) {
          EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
          EXPECT_THAT(Message(status), HasSubstr("free space on the disk"));
          ++refused_commits;
          break;
        }
        acknowledged.insert(job);
        if (!(*store)->Commit(Goes(job)).ok()) break;
      }
    } else {
      EXPECT_TRUE(absl::IsResourceExhausted(store.status())) << store.status();
      ++refused_opens;
    }
    disk_.TakeOnly(-1);
    const auto store = Open(name);
    ASSERT_TRUE(store.ok()) << "after " << writes << " writes: " << store.status();
    ASSERT_TRUE(
        (*store)->ForEachJob([&](uint64_t job, v1::JobRecord) { acknowledged.erase(job); }).ok());
    EXPECT_TRUE(acknowledged.empty()) << "after " << writes << " writes";
  }
  EXPECT_GT(refused_opens, 3);
  EXPECT_GT(refused_commits, 3);
}

TEST_F(FailingDiskTest, FullDuringABackup_IsReported) {
  ASSERT_TRUE((*Open())->Commit(Comes(1)).ok());
  for (int writes = 0; writes < 12; writes += 3) {
    auto store = Open();
    ASSERT_TRUE(store.ok()) << store.status();
    ASSERT_TRUE((*store)->Commit(Comes(2)).ok());
    disk_.TakeOnly(writes);
    const auto backup = (*store)->BackUp(folder_.File("backups"), 2);
    EXPECT_TRUE(backup.ok() || absl::IsResourceExhausted(backup.status())) << backup.status();
    disk_.TakeOnly(-1);
  }
}

// RocksDB 7.8 has no smallest key for the table of a compaction of which nothing is left, and looks
// at it all the same where the table could not be synced.
TEST_F(FailingDiskTest, CompactionOfWhatIsAllDeleted_IsReported) {
  for (uint64_t job = 1; job <= 3; ++job) {
    const auto store = Open();  // opening it writes a table of what was in the log
    ASSERT_TRUE(store.ok()) << store.status();
    ASSERT_TRUE((*store)->Commit(Comes(job)).ok());
    ASSERT_TRUE((*store)->Commit(Goes(job)).ok());
  }
  const auto database = Database::Open(folder_.File("store"), disk_.env());
  ASSERT_TRUE(database.ok()) << database.status();
  disk_.FailTableSyncs(true);
  rocksdb::CompactRangeOptions options;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForce;
  // Nothing is left of ranks, so nothing is written; of jobs there is.
  (void)(*database)->rocks()->CompactRange(options, (*database)->handle(Family::kRanks), nullptr,
                                           nullptr);
  EXPECT_FALSE((*database)
                   ->rocks()
                   ->CompactRange(options, (*database)->handle(Family::kJobs), nullptr, nullptr)
                   .ok());
}

}  // namespace
}  // namespace moe::storage
