#include "sampler/filters/near_duplicates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "common/philox.h"

namespace moe::sampler {
namespace {

using Words = std::vector<std::string>;

std::string Join(const Words& words) {
  std::string text;
  for (const std::string& word : words) text += word + " ";
  return text;
}

// One of 5,000 words, of letters alone: a digit would begin another word.
std::string Word(uint32_t number) {
  std::string word;
  for (int i = 0; i < 4; ++i, number /= 10) word += static_cast<char>('a' + number % 10);
  return word;
}

Words RandomWords(uint64_t seed, size_t count) {
  Words words;
  for (uint64_t i = 0; i < count; ++i) {
    words.push_back(Word(Philox(seed, RandomStream::kTest, 0, i)[0] % 5000));
  }
  return words;
}

// Every `stride`-th word is another one.
Words Changed(Words words, size_t stride) {
  for (size_t i = 0; i < words.size(); i += stride) words[i] += "x";
  return words;
}

// The true similarity: Jaccard's index of the sets of five-word sequences.
double Similarity(const Words& a, const Words& b) {
  const auto sequences = [](const Words& words) {
    std::set<Words> set;
    for (size_t i = 0; i + 5 <= words.size(); ++i) {
      set.emplace(words.begin() + static_cast<std::ptrdiff_t>(i),
                  words.begin() + static_cast<std::ptrdiff_t>(i + 5));
    }
    return set;
  };
  const std::set<Words> set_a = sequences(a), set_b = sequences(b);
  double both = 0;
  for (const Words& sequence : set_a) both += set_b.contains(sequence) ? 1 : 0;
  return both / (static_cast<double>(set_a.size() + set_b.size()) - both);
}

NearSignature Signature(const Words& words) { return SignatureOf(Join(words)).value(); }

TEST(NearDuplicatesTest, Estimate_IsTheSimilarity) {
  double bias = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const Words words = RandomWords(seed, 600);
    const Words other = Changed(words, 12 + 3 * seed);
    const double difference =
        EstimatedSimilarity(Signature(words), Signature(other)) - Similarity(words, other);
    EXPECT_NEAR(difference, 0, 0.18) << seed;  // four standard errors
    bias += difference / 40;
  }
  EXPECT_NEAR(bias, 0, 0.03);
}

TEST(NearDuplicatesTest, SignaturesOfOtherTexts_HardlyAgree) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    EXPECT_LT(EstimatedSimilarity(Signature(RandomWords(2 * seed, 300)),
                                  Signature(RandomWords(2 * seed + 1, 300))),
              0.1);
  }
}

TEST(NearDuplicatesTest, CaseMarksAndSpace_DoNotCount) {
  EXPECT_EQ(SignatureOf("The quick brown fox jumps over it"),
            SignatureOf("the QUICK, brown\n\nfox - jumps over it!"));
  EXPECT_EQ(SignatureOf("?! ... \n"), std::nullopt);
  EXPECT_NE(SignatureOf("one two"), SignatureOf("two one"));
}

TEST(NearDuplicatesTest, SlightlyChangedTexts_AreFoundAmongThousands) {
  NearDuplicates documents(0.8);
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    ASSERT_TRUE(documents.Insert(Signature(RandomWords(seed, 200)))) << seed;
  }
  int found = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    // 2 of 200 words: about 190 of 206 sequences are the same, 0.91.
    found += documents.Insert(Signature(Changed(RandomWords(seed, 200), 100))) ? 0 : 1;
  }
  EXPECT_GE(found, 295);
  EXPECT_LE(documents.size(), 3005u);
}

TEST(NearDuplicatesTest, TextsBelowTheLimit_Stay) {
  NearDuplicates documents(0.8);
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Words words = RandomWords(seed, 200);
    ASSERT_TRUE(documents.Insert(Signature(words)));
    // Every tenth word changed: half of the sequences, similarity a third.
    ASSERT_TRUE(documents.Insert(Signature(Changed(words, 10)))) << seed;
  }
}

TEST(NearDuplicatesTest, Restored_AnswersAsBefore) {
  NearDuplicates first(0.8), second(0.8);
  for (uint64_t seed = 0; seed < 500; ++seed) first.Insert(Signature(RandomWords(seed, 100)));
  for (size_t i = 0; i < first.size(); ++i) second.Restore(first.signature(i));
  for (uint64_t seed = 0; seed < 500; ++seed) {
    const NearSignature changed = Signature(Changed(RandomWords(seed, 100), 50 + seed % 50));
    EXPECT_EQ(first.Insert(changed), second.Insert(changed)) << seed;
  }
}

TEST(NearDuplicatesTest, Rows_LeaveLittleToChanceAtTheLimit) {
  EXPECT_EQ(NearDuplicates(0.8).rows_per_band(), 6);
  EXPECT_EQ(NearDuplicates(0.5).rows_per_band(), 3);
  EXPECT_EQ(NearDuplicates(1.0).rows_per_band(), 32);
}

}  // namespace
}  // namespace moe::sampler
