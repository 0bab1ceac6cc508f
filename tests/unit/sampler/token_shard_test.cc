#include "sampler/token_shard.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::sampler {
namespace {

using Documents = std::vector<std::vector<int32_t>>;

std::string Write(const std::string& path, int64_t vocab_size, const Documents& documents) {
  auto writer = TokenShardWriter::Create(path, vocab_size);
  EXPECT_TRUE(writer.ok()) << ToString(writer.status());
  for (const auto& document : documents) EXPECT_TRUE((*writer)->AppendDocument(document).ok());
  EXPECT_TRUE((*writer)->Finish().ok());
  return path;
}

Documents ReadAll(const TokenShard& shard) {
  Documents documents;
  int64_t begin = 0;
  for (int64_t i = 0; i < shard.num_documents(); ++i) {
    std::vector<int64_t> tokens(static_cast<size_t>(shard.DocumentEnd(i) - begin));
    shard.Read(begin, static_cast<int64_t>(tokens.size()), tokens.data());
    documents.emplace_back(tokens.begin(), tokens.end());
    begin = shard.DocumentEnd(i);
  }
  return documents;
}

TEST(TokenShardTest, WhatIsWritten_IsRead) {
  TemporaryFolder folder;
  const Documents documents = {{1, 2, 65535}, {0}, {7, 7, 7, 7, 9}};
  const Documents wide = {{1, 70000}, {0, 65536, 2}};
  for (const auto& [vocab_size, expected] :
       {std::pair{int64_t{65536}, documents}, {70001, wide}, {65537, documents}, {10, {}}}) {
    const auto shard = TokenShard::Open(Write(folder.File("a.tokens"), vocab_size, expected));
    ASSERT_TRUE(shard.ok()) << ToString(shard.status());
    EXPECT_EQ(shard->vocab_size(), vocab_size);
    EXPECT_EQ(ReadAll(*shard), expected);
  }
}

// docs/formats/dataset.md, byte by byte.
TEST(TokenShardTest, Layout_IsTheDocumentedOne) {
  TemporaryFolder folder;
  const auto bytes = ReadFile(Write(folder.File("a.tokens"), 300, {{1, 258}, {3}}));
  ASSERT_TRUE(bytes.ok());
  const std::string expected(
      "MOETOKEN"
      "\1\0\0\0"
      "\2\0\0\0"
      "\x2c\1\0\0\0\0\0\0"
      "\0\0\0\0\0\0\0\0"
      "\1\0\2\1\3\0"
      "\0\0"
      "\2\0\0\0\0\0\0\0"
      "\3\0\0\0\0\0\0\0"
      "\3\0\0\0\0\0\0\0"
      "\2\0\0\0\0\0\0\0"
      "\0\0\0\0",
      76);
  EXPECT_EQ(bytes->substr(0, 76), expected);
  EXPECT_EQ(bytes->size(), 80u);
}

TEST(TokenShardTest, AnyChangedByte_IsRefused) {
  TemporaryFolder folder;
  const std::string path = Write(folder.File("a.tokens"), 300, {{1, 2, 3}, {4, 5}});
  const std::string good = *ReadFile(path);
  for (size_t i = 0; i < good.size(); ++i) {
    for (const char flip : {'\x01', '\x80', '\xff'}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ flip);
      std::ofstream(path, std::ios::binary) << bad;
      ASSERT_TRUE(absl::IsDataLoss(TokenShard::Open(path).status())) << "byte " << i;
    }
  }
}

TEST(TokenShardTest, AnyTruncationOrExtension_IsRefused) {
  TemporaryFolder folder;
  const std::string path = Write(folder.File("a.tokens"), 300, {{1, 2, 3}, {4, 5}});
  const std::string good = *ReadFile(path);
  for (size_t size = 0; size < good.size(); ++size) {
    std::ofstream(path, std::ios::binary) << good.substr(0, size);
    ASSERT_TRUE(absl::IsDataLoss(TokenShard::Open(path).status())) << size << " bytes";
  }
  std::ofstream(path, std::ios::binary) << good << std::string(8, '\0');
  ASSERT_TRUE(absl::IsDataLoss(TokenShard::Open(path).status()));
}

TEST(TokenShardTest, Writer_RefusesWhatIsNoDocument) {
  TemporaryFolder folder;
  auto writer = TokenShardWriter::Create(folder.File("a.tokens"), 10);
  ASSERT_TRUE(writer.ok());
  EXPECT_FALSE((*writer)->AppendDocument({}).ok());
  EXPECT_FALSE((*writer)->AppendDocument(std::vector<int32_t>{10}).ok());
  EXPECT_FALSE((*writer)->AppendDocument(std::vector<int32_t>{-1}).ok());
  EXPECT_FALSE(TokenShardWriter::Create(folder.File("b.tokens"), 0).ok());
}

// Everything that a later writer takes up: documents that were synced count, what came after them
// does not, and the file ends up the same.
TEST(TokenShardTest, AbandonedWriter_IsGoneOnWithToTheSameBytes) {
  TemporaryFolder folder;
  const Documents documents = {{1, 2, 3}, {4}, {5, 6}, {7, 8, 9}};
  for (const int64_t vocab_size : {int64_t{300}, int64_t{70000}}) {
    const std::string whole = *ReadFile(Write(folder.File("whole"), vocab_size, documents));
    for (size_t synced = 0; synced <= documents.size(); ++synced) {
      TokenShardWriter::Extent extent;
      {
        auto writer = TokenShardWriter::Create(folder.File("a.tokens"), vocab_size);
        for (size_t i = 0; i < synced; ++i)
          ASSERT_TRUE((*writer)->AppendDocument(documents[i]).ok());
        ASSERT_TRUE((*writer)->Sync().ok());
        extent = (*writer)->extent();
        ASSERT_TRUE((*writer)->AppendDocument(std::vector<int32_t>{299, 298}).ok());
        ASSERT_TRUE((*writer)->Sync().ok());
      }
      auto writer = TokenShardWriter::Resume(folder.File("a.tokens"), vocab_size, extent);
      ASSERT_TRUE(writer.ok()) << ToString(writer.status());
      for (size_t i = synced; i < documents.size(); ++i) {
        ASSERT_TRUE((*writer)->AppendDocument(documents[i]).ok());
      }
      ASSERT_TRUE((*writer)->Finish().ok());
      EXPECT_EQ(*ReadFile(folder.File("a.tokens")), whole) << synced;
    }
  }
}

TEST(TokenShardTest, FileShorterThanWhatWasSynced_IsRefused) {
  TemporaryFolder folder;
  { auto writer = TokenShardWriter::Create(folder.File("a.tokens"), 10); }
  const auto writer =
      TokenShardWriter::Resume(folder.File("a.tokens"), 10, {.tokens = 5, .documents = 1});
  EXPECT_TRUE(absl::IsDataLoss(writer.status())) << ToString(writer.status());
}

TEST(TokenShardTest, LastDocument_IsGivenBackAndRemoved) {
  TemporaryFolder folder;
  for (const int64_t vocab_size : {int64_t{300}, int64_t{70000}}) {
    auto writer = TokenShardWriter::Create(folder.File("a.tokens"), vocab_size);
    ASSERT_TRUE((*writer)->AppendDocument(std::vector<int32_t>{1, 2}).ok());
    ASSERT_TRUE((*writer)->AppendDocument(std::vector<int32_t>{3, 4, 5}).ok());
    EXPECT_EQ(*(*writer)->LastDocument(), (std::vector<int32_t>{3, 4, 5}));
    ASSERT_TRUE((*writer)->DropLastDocument().ok());
    EXPECT_EQ(*(*writer)->LastDocument(), (std::vector<int32_t>{1, 2}));
    ASSERT_TRUE((*writer)->AppendDocument(std::vector<int32_t>{6}).ok());
    ASSERT_TRUE((*writer)->Finish().ok());
    writer->reset();
    EXPECT_EQ(ReadAll(*TokenShard::Open(folder.File("a.tokens"))), (Documents{{1, 2}, {6}}));
    EXPECT_FALSE(FileExists(folder.File("a.tokens.ends")));
  }
}

TEST(TokenShardTest, FullDisk_IsSaid) {
  if (!FileExists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  TemporaryFolder folder;
  std::filesystem::create_symlink("/dev/full", folder.File("a.tokens"));
  auto writer = TokenShardWriter::Create(folder.File("a.tokens"), 10);
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->AppendDocument(std::vector<int32_t>{1, 2}).ok());
  EXPECT_TRUE(absl::IsResourceExhausted((*writer)->Finish()));
}

}  // namespace
}  // namespace moe::sampler
