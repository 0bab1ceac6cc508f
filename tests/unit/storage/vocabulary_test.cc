#include "storage/artefacts/vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::artefacts {
namespace {

bool Fits(const Vocabulary& dataset, const Vocabulary& model) {
  return CheckVocabulary("corpus:1", dataset, "moe:2", model).ok();
}

TEST(VocabularyTest, PaddedModel_ReadsADatasetOfItsOwnTokenizer) {
  EXPECT_TRUE(Fits({32000, 7}, {32000, 7}));
  EXPECT_TRUE(Fits({32000, 7}, {32064, 7}));
  EXPECT_FALSE(Fits({32064, 7}, {32000, 7})) << "tokens without a row of the embedding";
}

TEST(VocabularyTest, AnotherTokenizerOfTheSameSize_IsRefused) {
  EXPECT_FALSE(Fits({32000, 7}, {32000, 8}));
}

TEST(VocabularyTest, WithoutBothTokenizers_TheSizesDecide) {
  EXPECT_TRUE(Fits({32000, {}}, {32000, 7}));
  EXPECT_TRUE(Fits({32000, 7}, {32000, {}}));
  EXPECT_FALSE(Fits({32000, 7}, {32064, {}}));
}

TEST(VocabularyTest, Refusal_NamesBoth) {
  const std::string error =
      Message(CheckVocabulary("corpus:1", {32000, 0xabcd}, "moe:2", {32064, 0x1234}));
  for (const char* part : {"corpus:1", "32000", "0000abcd", "moe:2", "32064", "00001234",
                           "prepare the dataset with the model's own tokenizer"}) {
    EXPECT_THAT(error, testing::HasSubstr(part));
  }
}

TEST(VocabularyTest, TokenizerOfAFolder_IsTheOriginal) {
  TemporaryFolder folder;
  EXPECT_EQ(TokenizerFileIn(folder.path()), std::nullopt);
  folder.Write("tokenizer.json", "{}");
  EXPECT_EQ(TokenizerFileIn(folder.path()), "tokenizer.json");
  folder.Write("tokenizer.model", "x");
  EXPECT_EQ(TokenizerFileIn(folder.path()), "tokenizer.model");
}

}  // namespace
}  // namespace moe::artefacts
