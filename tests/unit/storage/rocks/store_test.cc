#include "storage/rocks/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "common/file.h"
#include "common/status.h"
#include "storage/rocks/fsck.h"

namespace moe::storage {
namespace {

using ::testing::HasSubstr;

class StoreTest : public ::testing::Test {
 protected:
  StoreTest() {
    folder_ = std::filesystem::temp_directory_path() /
              fmt::format("moe-store-{}-{}", ::getpid(),
                          ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    Reopen();
  }
  ~StoreTest() override {
    store_.reset();
    std::filesystem::remove_all(folder_);
  }
  void Reopen() {
    store_.reset();
    auto store = Store::Open({.path = folder_});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  // Puts a store of an earlier release in the place of this one.
  void Unpack(const std::string& name) {
    const char* source = std::getenv("MOE_SOURCE_DIR");
    ASSERT_NE(source, nullptr) << "set MOE_SOURCE_DIR to the checkout";
    store_.reset();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    const std::string unpack = fmt::format(
        "tar -xzf '{}/tests/unit/storage/rocks/testdata/{}' -C '{}' --strip-components=1", source,
        name, folder_.string());
    ASSERT_EQ(std::system(unpack.c_str()), 0) << unpack;
  }
  v1::JobRecord Record(const std::string& job_id) {
    v1::JobRecord record;
    record.mutable_job()->set_job_id(job_id);
    return record;
  }
  std::vector<std::string> JobIds() {
    std::vector<std::string> ids;
    EXPECT_TRUE(store_
                    ->ForEachJob([&](uint64_t, v1::JobRecord record) {
                      ids.push_back(record.job().job_id());
                    })
                    .ok());
    return ids;
  }

  // The newest write-ahead log, after three jobs were written and the store was closed.
  std::filesystem::path LogOfThreeJobs() {
    for (uint64_t job = 1; job <= 3; ++job) {
      Batch batch;
      batch.PutJob(job, Record(fmt::format("j{}", job)));
      EXPECT_TRUE(store_->Commit(batch).ok());
    }
    store_.reset();
    std::filesystem::path newest;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      if (entry.path().extension() == ".log" && entry.file_size() > 0) newest = entry.path();
    }
    EXPECT_FALSE(newest.empty());
    return newest;
  }
  // Where the text of a job is in the file.
  static size_t Find(const std::filesystem::path& file, const std::string& text) {
    const size_t offset = ReadFile(file)->find(text);
    EXPECT_NE(offset, std::string::npos);
    return offset;
  }
  static void Zero(const std::filesystem::path& file, size_t offset) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(static_cast<std::streamoff>(offset));
    stream.write("\0\0", 2);
  }

  std::filesystem::path folder_;
  std::unique_ptr<Store> store_;
};

TEST_F(StoreTest, Commit_SurvivesReopening) {
  Batch batch;
  batch.PutRevision(41);
  batch.PutNextJob(300);
  batch.PutVersionCounter("corpus", 3);
  for (const uint64_t job : {2, 256, 10}) {
    batch.PutJob(job, Record("j" + std::to_string(job)));
  }
  ASSERT_TRUE(store_->Commit(batch).ok());
  const std::string id = store_->store_id();
  Reopen();
  EXPECT_EQ(store_->store_id(), id);
  EXPECT_EQ(JobIds(), (std::vector<std::string>{"j2", "j10", "j256"}));
  const auto counters = store_->ReadCounters();
  EXPECT_EQ(counters->revision, 41);
  EXPECT_EQ(counters->next_job, 300u);
  EXPECT_EQ(counters->last_artefact_version.at("corpus"), 3);
}

// The process ends without closing anything, as with kill -9: the log alone has it all.
TEST_F(StoreTest, Commit_SurvivesKill) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the thread sanitizer cannot follow RocksDB's threads into a fork";
#endif
  store_.reset();
  const pid_t child = ::fork();
  if (child == 0) {
    auto store = Store::Open({.path = folder_});
    Batch batch;
    batch.PutJob(1, Record("j1"));
    batch.PutRevision(1);
    const bool ok = store.ok() && (*store)->Commit(batch).ok();
    ::_exit(ok ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  Reopen();
  EXPECT_EQ(JobIds(), std::vector<std::string>{"j1"});
}

// A torn record at the end of the log was never acknowledged; what is before it stays.
TEST_F(StoreTest, TornTailOfTheLog_LosesOnlyTheTornBatch) {
  Batch first, second;
  first.PutJob(1, Record("j1"));
  second.PutJob(2, Record("j2"));
  ASSERT_TRUE(store_->Commit(first).ok());
  ASSERT_TRUE(store_->Commit(second).ok());
  store_.reset();
  std::filesystem::path newest;
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    if (entry.path().extension() == ".log" && entry.file_size() > 0) newest = entry.path();
  }
  ASSERT_FALSE(newest.empty());
  std::filesystem::resize_file(newest, std::filesystem::file_size(newest) - 3);
  Reopen();
  EXPECT_EQ(JobIds(), std::vector<std::string>{"j1"});
}

// Its sectors reach the disk in any order.
TEST_F(StoreTest, HoleInTheLastWrite_LosesOnlyThatWrite) {
  const std::filesystem::path log = LogOfThreeJobs();
  Zero(log, Find(log, "j3"));
  Reopen();
  EXPECT_EQ(JobIds(), (std::vector<std::string>{"j1", "j2"}));
}

// What is behind it was acknowledged later, so this was acknowledged too.
TEST_F(StoreTest, HoleInAnEarlierWrite_IsRefusedAndNotSkipped) {
  const std::filesystem::path log = LogOfThreeJobs();
  Zero(log, Find(log, "j2"));
  const auto store = Store::Open({.path = folder_});
  EXPECT_TRUE(absl::IsDataLoss(store.status())) << store.status();
}

TEST_F(StoreTest, SecondProcess_IsRefused) {
  const auto second = Store::Open({.path = folder_});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(second.status()), HasSubstr("in use by another process"));
}

// Written by the last releases with these schemas (testdata/README.md).
TEST_F(StoreTest, StoreOfVersion1_OpensWithItsJobsAndIsBroughtForward) {
  Unpack("store-v1.tar.gz");
  for (const int times_opened : {1, 2}) {
    SCOPED_TRACE(times_opened);
    Reopen();
    EXPECT_THAT(JobIds(), ::testing::ElementsAre("j1"));
    EXPECT_EQ(store_->store_id(), "d93cc3ec02a8c379e333847983061c65");
    EXPECT_EQ(store_->ReadCounters()->next_job, 2u);
  }
  Batch batch;
  v1::Token token;
  token.set_user("alice");
  batch.PutToken("hash", token);
  ASSERT_TRUE(store_->Commit(batch).ok());
  Reopen();
  std::string user;
  ASSERT_TRUE(store_->ForEachToken([&](const std::string&, v1::Token t) { user = t.user(); }).ok());
  EXPECT_EQ(user, "alice");
}

TEST_F(StoreTest, StoreOfVersion2_OpensWithItsJobsAndIsBroughtForward) {
  Unpack("store-v2.tar.gz");
  const auto before = Fsck(folder_, [](const v1::Artefact&) {});
  ASSERT_TRUE(before.ok()) << before.status();
  EXPECT_EQ(before->schema_version, 2u);
  EXPECT_THAT(before->findings, ::testing::IsEmpty());
  Reopen();
  EXPECT_THAT(JobIds(), ::testing::ElementsAre("j1", "j2"));
  EXPECT_FALSE(store_->LastAudit()->has_value());
  Batch batch;
  v1::AuditEntry entry;
  entry.set_seq(1);
  batch.PutAudit(entry);
  ASSERT_TRUE(store_->Commit(batch).ok());
  Reopen();
  EXPECT_EQ((*store_->LastAudit())->seq(), 1);
}

TEST_F(StoreTest, NewerSchema_IsRefused) {
  store_.reset();
  {  // as a later release would leave it
    std::vector<std::string> names;
    ASSERT_TRUE(rocksdb::DB::ListColumnFamilies({}, folder_, &names).ok());
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const std::string& name : names)
      families.emplace_back(name, rocksdb::ColumnFamilyOptions());
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* db = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open({}, folder_, families, &handles, &db).ok());
    std::string version;
    AppendU64(kSchemaVersion + 1, &version);
    for (size_t i = 0; i < names.size(); ++i) {
      if (names[i] == "meta") {
        ASSERT_TRUE(db->Put({}, handles[i], "schema_version", version).ok());
      }
    }
    for (auto* handle : handles) (void)db->DestroyColumnFamilyHandle(handle);
    delete db;
  }
  const auto store = Store::Open({.path = folder_});
  EXPECT_EQ(store.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(store.status()),
              HasSubstr(fmt::format("schema version {}", kSchemaVersion + 1)));
}

TEST_F(StoreTest, DeleteAttempt_DropsItsRanksAndRendezvousAndNothingElse) {
  Batch batch;
  for (const int attempt : {1, 2}) {
    batch.PutAttempt(7, attempt, {});
    batch.PutRank({7, attempt, 0}, {});
    batch.PutRank({7, attempt, 1}, {});
    batch.PutRendezvous(7, attempt, "gloo/0", "address");
    batch.PutLog({7, attempt, 0}, 0, "text");
  }
  ASSERT_TRUE(store_->Commit(batch).ok());
  Batch removal;
  removal.DeleteAttempt(7, 1);
  ASSERT_TRUE(store_->Commit(removal).ok());
  std::vector<int> ranks;
  ASSERT_TRUE(
      store_->ForEachRank([&](RankKey key, v1::RankRecord) { ranks.push_back(key.attempt); }).ok());
  EXPECT_EQ(ranks, (std::vector<int>{2, 2}));
  EXPECT_TRUE(store_->ListRendezvous(7, 1)->empty());
  EXPECT_EQ(store_->ListRendezvous(7, 2)->size(), 1u);
  EXPECT_EQ(store_->ReadLog({7, 1, 0}, 0, 100)->bytes, "text");
}

TEST_F(StoreTest, ReadLog_FromTheMiddleOfAChunk) {
  Batch batch;
  batch.PutLog({1, 1, 0}, 0, "hello ");
  batch.PutLog({1, 1, 0}, 6, "world");
  batch.PutLog({1, 1, 1}, 0, "another rank");
  ASSERT_TRUE(store_->Commit(batch).ok());
  EXPECT_EQ(store_->ReadLog({1, 1, 0}, 4, 100)->bytes, "o ");
  EXPECT_EQ(store_->ReadLog({1, 1, 0}, 8, 2)->bytes, "rl");
  EXPECT_EQ(store_->ReadLog({1, 1, 0}, 11, 100)->bytes, "");
  EXPECT_EQ(store_->ReadLog({1, 2, 0}, 0, 100)->bytes, "");
}

}  // namespace
}  // namespace moe::storage
