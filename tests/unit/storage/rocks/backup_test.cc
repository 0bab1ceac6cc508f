#include "storage/rocks/backup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/file.h"
#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/storage/rocks/good_store.h"

namespace moe::storage {
namespace {

using ::testing::HasSubstr;

class BackupTest : public ::testing::Test {
 protected:
  BackupTest() { MakeStore(store(), GoodBatch()); }
  std::string store() const { return folder_.File("store"); }
  std::string backups() const { return folder_.File("backups"); }
  void MakeBackupOk() {
    const auto backup = MakeBackup(store(), backups(), 7);
    ASSERT_TRUE(backup.ok()) << backup.status();
  }
  Store::Counters Counters() const { return *(*Store::Open({.path = store()}))->ReadCounters(); }
  bool HasJob(uint64_t wanted) const {
    bool found = false;
    EXPECT_TRUE((*Store::Open({.path = store()}))
                    ->ForEachJob([&](uint64_t job, v1::JobRecord) { found |= job == wanted; })
                    .ok());
    return found;
  }
  // What the coordinator does after the backup was made.
  void SubmitLater() {
    Batch batch;
    v1::JobRecord record;
    record.mutable_job()->set_job_id("j3");
    batch.PutJob(3, record);
    batch.PutNextJob(4);
    batch.PutVersionCounter("corpus", 5);
    MakeStore(store(), batch);
  }
  void DamageStore() {
    for (const auto& entry : std::filesystem::directory_iterator(store())) {
      if (entry.path().filename().string().starts_with("MANIFEST")) {
        std::filesystem::resize_file(entry.path(), 10);
      }
    }
  }

  TemporaryFolder folder_;
};

TEST_F(BackupTest, Restored_IsWhatWasBackedUp_AndNoNumberIsGivenAgain) {
  MakeBackupOk();
  SubmitLater();
  const auto restored = RestoreBackup(backups(), 0, store());
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_FALSE(HasJob(3));
  EXPECT_TRUE(HasJob(2));
  EXPECT_EQ(restored->skipped_jobs, 1u);
  EXPECT_EQ(Counters().next_job, 4u);
  EXPECT_EQ(Counters().last_artefact_version.at("corpus"), 5);
  EXPECT_TRUE(FileExists(restored->set_aside));
  EXPECT_TRUE(*(*Store::Open({.path = store()}))->is_restored());
}

TEST_F(BackupTest, OpenStore_IsBackedUpAndGoesOn) {
  {
    const auto open = *Store::Open({.path = store()});
    const auto write = [&open](uint64_t job) {
      Batch batch;
      v1::JobRecord record;
      record.mutable_job()->set_job_id("j" + std::to_string(job));
      batch.PutJob(job, record);
      batch.PutNextJob(job + 1);
      ASSERT_TRUE(open->Commit(batch).ok());
    };
    write(50);
    const auto backup = open->BackUp(backups(), 7);
    ASSERT_TRUE(backup.ok()) << backup.status();
    EXPECT_EQ(backup->id, 1u);
    write(51);
  }
  EXPECT_TRUE(HasJob(51));
  ASSERT_TRUE(RestoreBackup(backups(), 0, store()).ok());
  EXPECT_TRUE(HasJob(50)) << "was committed before the backup";
  EXPECT_FALSE(HasJob(51));
  EXPECT_EQ(Counters().next_job, 52u) << "no number is given again";
}

TEST_F(BackupTest, DamagedStore_IsReplaced_AndNumbersGoOnFarAbove) {
  MakeBackupOk();
  SubmitLater();
  DamageStore();
  ASSERT_TRUE(RestoreBackup(backups(), 0, store()).ok());
  EXPECT_TRUE(HasJob(2));
  EXPECT_GE(Counters().next_job, 1'000'000u);
}

TEST_F(BackupTest, DamagedStore_IsNotBackedUp) {
  MakeBackupOk();
  ASSERT_TRUE(CompactStore(store()).ok());
  for (const auto& entry : std::filesystem::directory_iterator(store())) {
    if (entry.path().extension() != ".sst") continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(10);
    file.put('\x7f');
  }
  EXPECT_THAT(Message(MakeBackup(store(), backups(), 7).status()), HasSubstr("damaged"));
  EXPECT_EQ(ListBackups(backups())->size(), 1u);
}

TEST_F(BackupTest, DamagedBackup_IsRefusedAndTheStoreIsLeftAlone) {
  MakeBackupOk();
  SubmitLater();
  for (const auto& entry : std::filesystem::recursive_directory_iterator(backups())) {
    if (entry.path().extension() != ".sst") continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(10);
    file.put('\x7f');
  }
  EXPECT_THAT(Message(RestoreBackup(backups(), 0, store()).status()), HasSubstr("is damaged"));
  EXPECT_TRUE(HasJob(3));
}

TEST_F(BackupTest, OnlyTheNewestAreKept_AndAnyOfThemComesBack) {
  MakeBackupOk();
  SubmitLater();
  ASSERT_TRUE(MakeBackup(store(), backups(), 2).ok());
  ASSERT_TRUE(MakeBackup(store(), backups(), 2).ok());
  const auto all = ListBackups(backups());
  ASSERT_EQ(all->size(), 2u);
  EXPECT_EQ(all->front().id, 2u);
  EXPECT_THAT(Message(RestoreBackup(backups(), 1, store()).status()), HasSubstr("it has 2 to 3"));
  ASSERT_TRUE(RestoreBackup(backups(), 2, folder_.File("elsewhere/store")).ok());
  EXPECT_TRUE(FileExists(folder_.File("elsewhere/store/CURRENT")));
}

TEST_F(BackupTest, FolderOfAnotherStore_IsRefused) {
  MakeBackupOk();
  std::filesystem::remove_all(store());
  MakeStore(store(), GoodBatch());
  EXPECT_THAT(Message(MakeBackup(store(), backups(), 7).status()), HasSubstr("another store"));
}

TEST_F(BackupTest, StoreInUse_IsRefusedByAll) {
  MakeBackupOk();
  const auto open = Store::Open({.path = store()});
  EXPECT_TRUE(absl::IsFailedPrecondition(MakeBackup(store(), backups(), 7).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(RestoreBackup(backups(), 0, store()).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(CompactStore(store()).status()));
}

TEST_F(BackupTest, LeftoversOfAnInterruptedRestore_AreNoHindrance) {
  MakeBackupOk();
  ASSERT_TRUE(MakeDirectories(store() + ".restoring").ok());
  ASSERT_TRUE(ReplaceFile(store() + ".restoring/CURRENT", "garbage").ok());
  EXPECT_TRUE(RestoreBackup(backups(), 0, store()).ok());
  EXPECT_TRUE(HasJob(2));
}

}  // namespace
}  // namespace moe::storage
