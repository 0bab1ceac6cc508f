#include "common/audit/audit_chain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "common/status.h"

namespace moe {
namespace {

using ::testing::HasSubstr;

std::vector<v1::AuditEntry> Journal(int entries) {
  AuditChain chain;
  std::vector<v1::AuditEntry> journal;
  for (int i = 0; i < entries; ++i) {
    v1::AuditEntry& entry = journal.emplace_back();
    entry.set_user("alice");
    entry.set_method("CancelJob");
    entry.set_target("j" + std::to_string(i));
    entry.set_code("OK");
    chain.Append(&entry);
  }
  return journal;
}

absl::Status Follow(const std::vector<v1::AuditEntry>& journal, AuditChain chain = AuditChain()) {
  for (const v1::AuditEntry& entry : journal) MOE_RETURN_IF_ERROR(chain.Follow(entry));
  return absl::OkStatus();
}

TEST(AuditChainTest, WhatWasAppended_IsFollowed) {
  const auto journal = Journal(5);
  EXPECT_TRUE(Follow(journal).ok());
  EXPECT_EQ(journal[4].seq(), 5);
  EXPECT_EQ(journal[0].previous_hash(), std::string(32, '\0'));
}

TEST(AuditChainTest, EveryFieldOfEveryEntry_IsVouchedFor) {
  const auto journal = Journal(3);
  for (size_t i = 0; i < journal.size(); ++i) {
    for (int field = 0; field < v1::AuditEntry::descriptor()->field_count(); ++field) {
      auto tampered = journal;
      const auto* descriptor = v1::AuditEntry::descriptor()->field(field);
      const auto* reflection = tampered[i].GetReflection();
      SCOPED_TRACE(descriptor->name());
      switch (descriptor->cpp_type()) {
        case google::protobuf::FieldDescriptor::CPPTYPE_STRING:
          reflection->SetString(&tampered[i], descriptor, "mallory");
          break;
        case google::protobuf::FieldDescriptor::CPPTYPE_INT64:
          reflection->SetInt64(&tampered[i], descriptor, 99);
          break;
        default:
          tampered[i].mutable_time()->set_seconds(99);
      }
      EXPECT_TRUE(absl::IsDataLoss(Follow(tampered)));
    }
  }
}

TEST(AuditChainTest, EntriesThatWereRemovedMovedOrPutIn_AreNoticed) {
  const auto journal = Journal(4);
  auto removed = journal;
  removed.erase(removed.begin() + 1);
  EXPECT_THAT(Message(Follow(removed)), HasSubstr("entry 3 comes after entry 1"));
  auto moved = journal;
  std::swap(moved[1], moved[2]);
  EXPECT_TRUE(absl::IsDataLoss(Follow(moved)));
  // With good hashes of its own: the next entry does not hold them.
  auto replaced = journal;
  replaced[1].set_user("mallory");
  AuditChain chain({.seq = 1, .hash = journal[0].hash()});
  chain.Append(&replaced[1]);
  EXPECT_THAT(Message(Follow(replaced)), HasSubstr("entry 3 does not hold the hash of entry 2"));
}

TEST(AuditChainTest, APart_IsFollowedFromWhereItBegins) {
  const auto journal = Journal(4);
  const std::vector<v1::AuditEntry> part(journal.begin() + 2, journal.end());
  EXPECT_TRUE(absl::IsDataLoss(Follow(part)));
  EXPECT_TRUE(Follow(part, AuditChain({.seq = 2, .hash = journal[1].hash()})).ok());
}

}  // namespace
}  // namespace moe
