#include "sampler/tokenizer/gpt2_words.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>

#include "common/status.h"
#include "sampler/tokenizer/regex_splitter.h"

namespace moe::sampler {
namespace {

using Words = std::vector<std::string_view>;

// The reference: the regular expressions themselves.
class Gpt2WordsTest : public testing::TestWithParam<bool> {
 protected:
  Gpt2WordsTest()
      : digits_(*RegexSplitter::CreateDigits(/*individual=*/true)),
        pattern_(*RegexSplitter::Create(kGpt2Pattern)) {}

  Words ByRegex(std::string_view text) const {
    Words pieces = {text}, words;
    if (GetParam()) {
      pieces.clear();
      EXPECT_TRUE(digits_->Split(text, pieces).ok());
    }
    for (const std::string_view piece : pieces) EXPECT_TRUE(pattern_->Split(piece, words).ok());
    return words;
  }

  Words ByHand(std::string_view text) const {
    Words words;
    for (size_t begin = 0; begin < text.size();) {
      bool is_ascii = false;
      const size_t end = IndependentStretch(text, begin, is_ascii);
      EXPECT_GT(end, begin);
      const std::string_view stretch = text.substr(begin, end - begin);
      if (is_ascii) {
        SplitAsciiWords(stretch, GetParam(), words);
      } else {
        const Words more = ByRegex(stretch);
        words.insert(words.end(), more.begin(), more.end());
      }
      begin = end;
    }
    return words;
  }

 private:
  const std::unique_ptr<RegexSplitter> digits_, pattern_;
};

TEST_P(Gpt2WordsTest, RandomText_FallsIntoTheWordsOfTheRegularExpression) {
  // Few characters, so that every rule meets every other; among them white space that is not ASCII.
  const std::string_view characters[] = {" ", " ", "\n",       "\t",       "'",   "s", "t",
                                         "r", "e", "ll",       "d",        "7",   "0", ".",
                                         "-", "A", "\xC3\xA9", "\xC2\xA0", "\x1C"};
  std::mt19937 random(1227);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    const size_t kinds = round % 2 == 0 ? std::size(characters) : std::size(characters) - 3;
    for (size_t i = random() % 24; i > 0; --i) text += characters[random() % kinds];
    if (text.empty()) continue;
    ASSERT_EQ(ByHand(text), ByRegex(text)) << testing::PrintToString(text);
  }
}

TEST_P(Gpt2WordsTest, EveryPairOfAsciiCharacters_FallsIntoTheSameWords) {
  for (char a = 0; a >= 0 && a < 127; ++a) {
    for (char b = 0; b >= 0 && b < 127; ++b) {
      const std::string text = {'x', a, b, 'y'};
      ASSERT_EQ(ByHand(text), ByRegex(text)) << testing::PrintToString(text);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(SingleDigits, Gpt2WordsTest, testing::Bool());

TEST(IndependentStretchTest, EndsBeforeAsciiWhiteSpaceAfterAnAsciiCharacter) {
  bool is_ascii = false;
  EXPECT_EQ(IndependentStretch("  ab\n c", 0, is_ascii), 4u);
  EXPECT_TRUE(is_ascii);
  // The no-break space and the blank are one run of white space.
  EXPECT_EQ(IndependentStretch("ab\xC2\xA0 c d", 0, is_ascii), 6u);
  EXPECT_FALSE(is_ascii);
}

}  // namespace
}  // namespace moe::sampler
