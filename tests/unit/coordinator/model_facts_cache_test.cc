#include "coordinator/model_facts_cache.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::coordinator {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kHour = 3'600'000'000'000;

class ModelFactsCacheTest : public ::testing::Test {
 protected:
  ModelFactsCacheTest() {
    fs::create_directories(Model());
    Write("config.json", "{}");
    Write("model.safetensors", "weights");
  }
  std::string Model() const { return folder_.File("model"); }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(fs::path(Model()) / name) << text;
  }
  // An hour after the newest change, unless it is to be another time.
  absl::StatusOr<ModelFacts> Get(int64_t after_nanos = kHour) {
    return cache_.Get(Model(), StampOf(Model())->newest_unix_nanos + after_nanos,
                      [this](const std::string& path) -> absl::StatusOr<ModelFacts> {
                        EXPECT_EQ(path, Model());
                        ++reads_;
                        if (fails_) return NotFound("broken");
                        return ModelFacts{.vocab_size = reads_};
                      });
  }

  TemporaryFolder folder_;
  ModelFactsCache cache_;
  int reads_ = 0;
  bool fails_ = false;
};

TEST_F(ModelFactsCacheTest, SameFiles_AreReadOnce) {
  EXPECT_EQ(Get()->vocab_size, 1);
  EXPECT_EQ(Get()->vocab_size, 1);
  EXPECT_EQ(reads_, 1);
}

TEST_F(ModelFactsCacheTest, AnyChangeOfTheFolder_HasItReadAgain) {
  EXPECT_EQ(Get()->vocab_size, 1);
  Write("model.safetensors", "other weights");
  EXPECT_EQ(Get()->vocab_size, 2);
  Write("tokenizer.json", "{}");
  EXPECT_EQ(Get()->vocab_size, 3);
  fs::remove(fs::path(Model()) / "tokenizer.json");
  EXPECT_EQ(Get()->vocab_size, 4);
  // Of the same size, with the time of the old one put back: its change has a time that nobody
  // sets. Again until the clock has moved on that files are stamped by.
  const fs::path config = fs::path(Model()) / "config.json";
  const auto time = fs::last_write_time(config);
  const int64_t before = StampOf(Model())->newest_unix_nanos;
  do {
    Write("config.json", "[]");
    fs::last_write_time(config, time);
  } while (StampOf(Model())->newest_unix_nanos == before);
  EXPECT_EQ(Get()->vocab_size, 5);
}

TEST_F(ModelFactsCacheTest, FilesThatHaveJustChanged_AreReadEveryTime) {
  EXPECT_EQ(Get(ModelFactsCache::kSettledNanos - 1)->vocab_size, 1);
  EXPECT_EQ(Get(ModelFactsCache::kSettledNanos - 1)->vocab_size, 2);
  EXPECT_EQ(Get(ModelFactsCache::kSettledNanos)->vocab_size, 3);
  EXPECT_EQ(Get(ModelFactsCache::kSettledNanos)->vocab_size, 3);
}

TEST_F(ModelFactsCacheTest, WhatCannotBeRead_IsTriedAgain) {
  fails_ = true;
  EXPECT_FALSE(Get().ok());
  fails_ = false;
  EXPECT_EQ(Get()->vocab_size, 2);
}

TEST_F(ModelFactsCacheTest, ThroughALink_TheFileItselfCounts) {
  const std::string blob = folder_.File("blob");
  std::ofstream(blob) << "one";
  fs::create_symlink(blob, fs::path(Model()) / "linked.safetensors");
  const auto before = StampOf(Model());
  std::ofstream(blob) << "more";
  EXPECT_NE(StampOf(Model())->identity, before->identity);
  fs::remove(blob);
  EXPECT_FALSE(StampOf(Model()).has_value());
}

}  // namespace
}  // namespace moe::coordinator
