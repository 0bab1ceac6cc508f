#include "coordinator/audit_journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::coordinator {
namespace {

using ::testing::HasSubstr;

class AuditJournalTest : public ::testing::Test {
 protected:
  AuditJournalTest() { Open(); }
  void Open() {
    journal_.reset();
    store_.reset();
    auto store = storage::Store::Open({.path = folder_.File("store")});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    journal_ = std::make_unique<AuditJournal>([this] { ++wakes_; });
    ASSERT_TRUE(journal_->Load(*store_).ok());
  }
  // As the loop does it.
  void Commit(const std::function<void(Turn&)>& change = [](Turn&) {}) {
    Turn turn{.unix_millis = 1'700'000'000'000 + now_, .monotonic_millis = now_};
    change(turn);
    journal_->BeforeCommit(turn);
    ASSERT_TRUE(store_->Commit(turn.batch).ok());
  }
  std::vector<v1::AuditEntry> Entries() { return *store_->ListAudit(0, 100'000); }
  void Deny(const std::string& user) {
    journal_->Refuse({.user = user, .peer = fmt::format("ipv4:10.0.0.7:{}", ++port_)}, "CancelJob",
                     "j1", PermissionDenied("no"));
  }

  TemporaryFolder folder_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<AuditJournal> journal_;
  int64_t now_ = 0;
  int wakes_ = 0;
  int port_ = 40'000;
};

TEST_F(AuditJournalTest, Change_IsWrittenWithItsBatch) {
  Commit([&](Turn& turn) {
    journal_->Record(turn, {.user = "alice", .token_id = "5feceb66"}, "CancelJob", "j1",
                     absl::OkStatus());
    EXPECT_EQ(turn.batch.writes().size(), 1u);
  });
  ASSERT_EQ(Entries().size(), 1u);
  const v1::AuditEntry entry = Entries()[0];
  EXPECT_EQ(entry.user(), "alice");
  EXPECT_EQ(entry.method(), "CancelJob");
  EXPECT_EQ(entry.target(), "j1");
  EXPECT_EQ(entry.code(), "OK");
  EXPECT_EQ(entry.count(), 1);
}

TEST_F(AuditJournalTest, Chain_GoesOnAfterARestart) {
  for (int i = 0; i < 2; ++i) {
    Commit([&](Turn& turn) { journal_->Record(turn, {}, "HoldJob", "j1", absl::OkStatus()); });
    Open();
  }
  Commit([&](Turn& turn) { journal_->Record(turn, {}, "HoldJob", "j1", absl::OkStatus()); });
  AuditChain chain;
  for (const v1::AuditEntry& entry : Entries()) EXPECT_TRUE(chain.Follow(entry).ok());
  EXPECT_EQ(chain.end().seq, 3);
}

TEST_F(AuditJournalTest, FloodOfEqualRefusals_IsWrittenAtOnceAndThenInSummary) {
  for (int i = 0; i < 1000; ++i) Deny("mallory");
  EXPECT_EQ(wakes_, 1);
  Commit();
  ASSERT_EQ(Entries().size(), 1u);
  EXPECT_EQ(Entries()[0].count(), 1000);
  for (int i = 0; i < 500; ++i) Deny("mallory");
  now_ += 100;
  Commit();
  EXPECT_EQ(Entries().size(), 1u);
  now_ = journal_->NextDeadlineMillis();
  EXPECT_EQ(now_, AuditJournal::kSummaryMillis);
  Commit();
  ASSERT_EQ(Entries().size(), 2u);
  EXPECT_EQ(Entries()[1].count(), 500);
  EXPECT_EQ(Entries()[1].code(), "PERMISSION_DENIED");
  EXPECT_EQ(Entries()[1].message(), "no");
  // When nothing comes any more, nothing is kept and nothing is waited for.
  now_ += AuditJournal::kSummaryMillis;
  Commit();
  EXPECT_EQ(journal_->NextDeadlineMillis(), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(Entries().size(), 2u);
}

TEST_F(AuditJournalTest, RefusalsOfDifferentKinds_AreKeptApart) {
  Deny("mallory");
  Deny("eve");
  journal_->Refuse({.user = "eve"}, "HoldJob", "j1", PermissionDenied("no"));
  Commit();
  EXPECT_EQ(Entries().size(), 3u);
}

TEST_F(AuditJournalTest, RefusalsOfTooManyKinds_AreOneKind) {
  for (size_t i = 0; i < AuditJournal::kMaxKinds + 50; ++i) Deny(fmt::format("user-{}", i));
  Commit();
  ASSERT_EQ(Entries().size(), AuditJournal::kMaxKinds + 1);
  int64_t others = 0;
  for (const v1::AuditEntry& entry : Entries()) {
    if (entry.method() == "many") others += entry.count();
  }
  EXPECT_EQ(others, 50);
}

TEST_F(AuditJournalTest, FloodOfDifferentRefusals_DoesNotFillTheDiskAndLosesNoCount) {
  constexpr int kRounds = 8;
  constexpr int kUsers = AuditJournal::kMaxKinds;
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kUsers; ++i) Deny(fmt::format("user-{}", i));
    Commit();
    now_ += AuditJournal::kSummaryMillis;
  }
  EXPECT_LE(Entries().size(),
            AuditJournal::kMaxEntriesAtOnce + now_ / AuditJournal::kMillisPerEntry);
  // The flood is over: what waited is written when there is room, and all of it is counted.
  for (int i = 0; i < 2 * kUsers && now_ != std::numeric_limits<int64_t>::max(); ++i) {
    Commit();
    now_ = journal_->NextDeadlineMillis();
  }
  int64_t refusals = 0;
  for (const v1::AuditEntry& entry : Entries()) refusals += entry.count();
  EXPECT_EQ(refusals, kRounds * kUsers);
}

TEST_F(AuditJournalTest, WhatACallerSends_IsCut) {
  const std::string long_text(100'000, 'x');
  journal_->Refuse({.user = "mallory"}, "CancelJob", long_text, NotFound("{}", long_text));
  Commit();
  EXPECT_LT(Entries()[0].ByteSizeLong(), 1200u);
  EXPECT_THAT(Entries()[0].target(), HasSubstr("xxx..."));
}

}  // namespace
}  // namespace moe::coordinator
