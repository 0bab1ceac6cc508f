#include "storage/rocks/fsck.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "common/status.h"
#include "storage/rocks/backup.h"
#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/storage/rocks/good_store.h"

namespace moe::storage {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class FsckTest : public ::testing::Test {
 protected:
  std::string path() const { return folder_.File("store"); }
  std::string Findings() {
    const auto report = Fsck(path(), [](const v1::Artefact&) {});
    if (!report.ok()) return Message(report.status());
    std::string text;
    for (const Finding& finding : report->findings) {
      text += finding.where + ": " + finding.problem + "\n";
      EXPECT_FALSE(finding.advice.empty()) << finding.problem;
    }
    EXPECT_EQ(report->num_findings, report->findings.size());
    return text;
  }

  TemporaryFolder folder_;
};

TEST_F(FsckTest, StoreInWhichEverythingAgrees_HasNoFindings) {
  MakeStore(path(), GoodBatch());
  int artefacts = 0;
  const auto report = Fsck(path(), [&](const v1::Artefact&) { ++artefacts; });
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->findings, IsEmpty());
  EXPECT_EQ(report->schema_version, kSchemaVersion);
  EXPECT_EQ(artefacts, 1);
  EXPECT_EQ(report->num_records, 21u);
}

// Each of these breaks one promise that the coordinator relies on.
TEST_F(FsckTest, EveryBrokenReference_IsFound) {
  const auto record = [](const std::string& job_id, v1::JobState state) {
    v1::JobRecord job;
    job.mutable_job()->set_job_id(job_id);
    job.mutable_job()->set_pipeline_id("p1");
    job.mutable_job()->set_state(state);
    job.mutable_job()->set_attempt(1);
    return job;
  };
  struct Damage {
    std::function<void(Batch&)> make;
    std::string finding;
  };
  const std::vector<Damage> damages = {
      {[&](Batch& b) { b.PutJob(2, record("j7", v1::JOB_STATE_QUEUED)); },
       "jobs/j2: says that it is 'j7'"},
      {[&](Batch& b) { b.PutJob(3, record("j3", v1::JOB_STATE_QUEUED)); },
       "jobs/j3: the next number to be given is 3"},
      {[&](Batch& b) { b.PutJob(1, record("j1", v1::JOB_STATE_RUNNING)); },
       "jobs/j1: is JOB_STATE_RUNNING, and its attempt 1 is not there"},
      {[&](Batch& b) { b.PutJob(2, record("j2", v1::JOB_STATE_SUCCEEDED)); },
       "attempts/j2.1: has not ended"},
      {[](Batch& b) { b.PutNextPipeline(1); }, "is of pipeline 'p1'"},
      {[](Batch& b) { b.PutAttempt(2, 5, {}); }, "attempts/j2.5: the job has had 1 attempts"},
      {[](Batch& b) { b.PutAttempt(9, 1, {}); }, "attempts/j9.1: belongs to job j9"},
      {[](Batch& b) {
         b.PutRank({2, 1, 7}, {});
       },
       "the attempt has 1 ranks"},
      {[](Batch& b) {
         b.PutRank({1, 1, 0}, {});
       },
       "belongs to attempt j1.1, which is over"},
      {[](Batch& b) {
         b.PutLog({2, 1, 0}, 20, "x");
       },
       "goes from byte 11 to 20"},
      {[](Batch& b) { b.PutEvent(8, {}); }, "events/j8 number 0: belongs to job j8"},
      {[](Batch& b) { b.PutVersionCounter("corpus", 0); }, "a version that was never given"},
      {[](Batch& b) { b.DeleteArtefact("corpus", 1); }, ""},
      {[](Batch& b) {
         v1::SamplerDecision decision;
         decision.set_version(3);
         b.PutDecision(2, decision);
       },
       "sampler/j2 decision 3: comes after 1"},
      {[](Batch& b) {
         v1::RequestRecord request;
         request.add_job_ids("j77");
         b.PutRequest("lost", request);
       },
       "request_ids/lost: belongs to job j77, which is not there"},
      {[](Batch& b) {
         v1::AuditEntry entry;
         entry.set_seq(1);
         entry.set_user("mallory");
         b.PutAudit(entry);
       },
       "audit: entry 1"},
  };
  for (size_t i = 0; i < damages.size(); ++i) {
    SCOPED_TRACE(fmt::format("damage {}: {}", i, damages[i].finding));
    std::filesystem::remove_all(path());
    MakeStore(path(), GoodBatch());
    Batch batch;
    damages[i].make(batch);
    MakeStore(path(), batch);
    EXPECT_THAT(Findings(), HasSubstr(damages[i].finding));
  }
}

TEST_F(FsckTest, ByteThatChangedOnTheDisk_IsFound) {
  MakeStore(path(), GoodBatch());
  ASSERT_TRUE(CompactStore(path()).ok());  // into table files
  for (const auto& entry : std::filesystem::directory_iterator(path())) {
    if (entry.path().extension() != ".sst") continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(10);
    file.put('\x7f');
  }
  EXPECT_THAT(Findings(), HasSubstr("files: "));
}

TEST_F(FsckTest, StoreInUseOrMissing_IsRefused) {
  EXPECT_THAT(Findings(), HasSubstr("there is no store"));
  const auto store = Store::Open({.path = path()});
  ASSERT_TRUE(store.ok());
  EXPECT_THAT(Findings(), HasSubstr("in use by another process"));
}

}  // namespace
}  // namespace moe::storage
