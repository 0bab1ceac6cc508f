#include "storage/artefacts/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/crc32c.h"
#include "common/file.h"
#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::artefacts {
namespace {

using testing::HasSubstr;

class ManifestTest : public testing::Test {
 protected:
  ManifestTest() {
    folder_.Write("model.safetensors", std::string(10'000, 'x'));
    folder_.Write("config.json", "{}");
    folder_.Write("domain/wiki.tokens", "123456789");
    manifest_.kind = "model";
    manifest_.name = "smollm2-moe";
    manifest_.job_id = "j4";
    manifest_.attempt = 2;
    manifest_.inputs = {"/models/smollm2.gguf"};
    manifest_.metadata = {{"vocab_size", 49152}};
  }
  WrittenManifest Write() {
    const auto written = WriteManifest(folder_.path(), manifest_);
    EXPECT_TRUE(written.ok()) << ToString(written.status());
    return *written;
  }
  // Writes the manifest with one field of its JSON replaced, and expects it to be refused.
  void ExpectRefused(const Json::json_pointer& field, const Json& value,
                     const std::string& message) {
    Json json = valid_;
    json[field] = value;
    folder_.Write("manifest.json", json.dump());
    const auto read = ReadManifest(folder_.path(), nullptr);
    EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument) << message;
    EXPECT_THAT(Message(read.status()), HasSubstr(message));
  }

  TemporaryFolder folder_;
  Manifest manifest_;
  Json valid_;
};

TEST_F(ManifestTest, WriteManifest_DescribesEveryFileAndReadsBack) {
  const WrittenManifest written = Write();
  EXPECT_EQ(written.size_bytes, 10'000u + 2 + 9);
  const auto read = ReadManifest(folder_.path(), &written.crc32c);
  ASSERT_TRUE(read.ok()) << ToString(read.status());
  EXPECT_EQ(read->kind, "model");
  EXPECT_EQ(read->name, "smollm2-moe");
  EXPECT_EQ(read->job_id, "j4");
  EXPECT_EQ(read->attempt, 2);
  EXPECT_EQ(read->inputs, manifest_.inputs);
  EXPECT_EQ(read->metadata, manifest_.metadata);
  ASSERT_EQ(read->files.size(), 3u);
  EXPECT_EQ(read->files[0].path, "config.json");
  EXPECT_EQ(read->files[1].path, "domain/wiki.tokens");
  EXPECT_EQ(read->files[1].size_bytes, 9u);
  EXPECT_EQ(read->files[1].crc32c, 0xE3069283u);  // the published check value of "123456789"
  EXPECT_EQ(read->files[2].path, "model.safetensors");
  EXPECT_EQ(read->TotalBytes(), written.size_bytes);
  EXPECT_TRUE(CheckSizes(folder_.path(), *read).ok());
  EXPECT_TRUE(VerifyFiles(folder_.path(), *read).ok());
  // A second manifest does not describe the first.
  EXPECT_EQ(Write().crc32c, written.crc32c);
}

TEST_F(ManifestTest, DescribeFile_OfEverySize_GivesTheChecksumOfItsBytes) {
  for (const size_t size : {0, 1, 4095, 4096, 4097, 4 << 20, (4 << 20) + 1, (8 << 20) + 4097}) {
    std::string content(size, '\0');
    for (size_t i = 0; i < size; ++i) content[i] = static_cast<char>(i * 7 + i / 4096);
    folder_.Write("big", content);
    const auto file = DescribeFile(folder_.path(), "big");
    ASSERT_TRUE(file.ok()) << ToString(file.status());
    EXPECT_EQ(file->path, "big");
    EXPECT_EQ(file->size_bytes, size);
    EXPECT_EQ(file->crc32c, Crc32c(content.data(), size)) << size;
  }
  EXPECT_EQ(DescribeFile(folder_.path(), "absent").status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(DescribeFile(folder_.path(), "domain").ok());
}

TEST_F(ManifestTest, ChangedFiles_AreFound) {
  const WrittenManifest written = Write();
  const Manifest manifest = *ReadManifest(folder_.path(), &written.crc32c);

  folder_.Write("domain/wiki.tokens", "123456780");
  EXPECT_TRUE(CheckSizes(folder_.path(), manifest).ok());
  const absl::Status flipped = VerifyFiles(folder_.path(), manifest);
  EXPECT_EQ(flipped.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(flipped), HasSubstr("wiki.tokens has the CRC-32C"));
  EXPECT_THAT(Message(flipped), HasSubstr("its manifest says 0xe3069283"));

  folder_.Write("domain/wiki.tokens", "12345678");
  const absl::Status shorter = CheckSizes(folder_.path(), manifest);
  EXPECT_EQ(shorter.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(shorter), HasSubstr("wiki.tokens has 8 bytes, its manifest says 9"));
  EXPECT_EQ(VerifyFile(folder_.path(), manifest.files[1]).code(), absl::StatusCode::kDataLoss);

  std::filesystem::remove(folder_.File("domain/wiki.tokens"));
  EXPECT_EQ(CheckSizes(folder_.path(), manifest).code(), absl::StatusCode::kNotFound);
}

TEST_F(ManifestTest, ReadManifest_OfAnIncompleteOrForeignArtefact_IsRefused) {
  const auto incomplete = ReadManifest(folder_.path(), nullptr);
  EXPECT_EQ(incomplete.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(incomplete.status()), HasSubstr("is not a complete artefact"));

  const uint32_t other = Write().crc32c ^ 1;
  const auto foreign = ReadManifest(folder_.path(), &other);
  EXPECT_EQ(foreign.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(foreign.status()), HasSubstr("the catalogue says"));
}

TEST_F(ManifestTest, ReadManifest_WithBadFields_IsRefused) {
  Write();
  valid_ = *ReadJsonFile(folder_.File("manifest.json"));
  using Pointer = Json::json_pointer;
  ExpectRefused(Pointer("/format"), "zip", "format 'zip' version 1");
  ExpectRefused(Pointer("/version"), 2, "format 'moe-artefact' version 2");
  ExpectRefused(Pointer("/kind"), "photo", "kind 'photo'");
  ExpectRefused(Pointer("/attempt"), int64_t{1} << 40, "attempt 1099511627776 is out of range");
  ExpectRefused(Pointer("/metadata"), 1, "metadata: expected an object");
  ExpectRefused(Pointer("/files/0/path"), "../secret", "'../secret' is not one inside the folder");
  ExpectRefused(Pointer("/files/0/path"), "/etc/passwd", "'/etc/passwd' is not one inside");
  ExpectRefused(Pointer("/files/0/path"), "a/../../b", "'a/../../b' is not one inside");
  ExpectRefused(Pointer("/files/0/path"), "", "'' is not one inside");
  ExpectRefused(Pointer("/files/0/path"), "manifest.json", "'manifest.json' is not one inside");
  ExpectRefused(Pointer("/files/0/path"), "domain/wiki.tokens", "domain/wiki.tokens occurs twice");
  ExpectRefused(Pointer("/files/0/crc32c"), int64_t{1} << 32, "has more than 32 bits");
  ExpectRefused(Pointer("/files/0/size_bytes"), -1,
                "size_bytes: expected an integer of at least 0");
}

TEST_F(ManifestTest, WriteManifest_WhatCannotBeAnArtefact_IsRefused) {
  manifest_.kind = "photo";
  EXPECT_FALSE(WriteManifest(folder_.path(), manifest_).ok());
  manifest_.kind = "model";
  manifest_.files = {{"config.json", 3, 0}};
  EXPECT_EQ(WriteManifest(folder_.path(), manifest_).status().code(), absl::StatusCode::kDataLoss);
  manifest_.files.clear();
  std::filesystem::create_symlink("/etc/hostname", folder_.File("link"));
  const auto linked = WriteManifest(folder_.path(), manifest_);
  EXPECT_THAT(Message(linked.status()), HasSubstr("link is neither file nor folder"));
  EXPECT_FALSE(FileExists(folder_.File("manifest.json")));
}

}  // namespace
}  // namespace moe::artefacts
