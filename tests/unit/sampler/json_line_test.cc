#include "sampler/json_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/json.h"

namespace moe::sampler {
namespace {

JsonLine Parse(std::string line) {
  JsonLineParser parser;
  line.shrink_to_fit();  // no room behind the text
  return parser.Parse(line, /*with_set=*/true);
}

TEST(JsonLineTest, Text_ComesBeforeContent) {
  EXPECT_EQ(Parse(R"({"content": "b", "text": "a"})").text, "a");
  EXPECT_EQ(Parse(R"({"content": "b", "text": 1})").text, "b");
  EXPECT_EQ(Parse(R"({"title": "b"})").text, std::nullopt);
  EXPECT_TRUE(Parse(R"({"title": "b"})").is_object);
}

TEST(JsonLineTest, Escapes_BecomeWhatTheyStandFor) {
  EXPECT_EQ(Parse(R"({"text": "a\n\"\u00e9\ud83d\ude00\\"})").text, "a\n\"\u00e9\U0001F600\\");
}

TEST(JsonLineTest, WhatIsNoObject_IsNone) {
  for (const char* line : {"", "x", "[1]", "\"text\"", "{\"text\": \"a\"", "{\"text\": \"a\"} x",
                           "{\"text\": \"\\ud800\"}", "{\"text\": \"a\tb\"}"}) {
    EXPECT_FALSE(Parse(line).is_object) << line;
  }
}

TEST(JsonLineTest, Set_ComesFromEitherLayout) {
  EXPECT_EQ(Parse(R"({"text": "a", "meta": {"redpajama_set_name": "C4"}})").set, "C4");
  EXPECT_EQ(Parse(R"({"text": "a", "red_pajama_subset": "c4"})").set, "c4");
  EXPECT_EQ(Parse(R"({"text": "a", "meta": [1], "red_pajama_subset": "c4"})").set, "c4");
  EXPECT_EQ(
      Parse(R"({"text": "a", "meta": {"redpajama_set_name": 1}, "red_pajama_subset": "c4"})").set,
      "");
  EXPECT_EQ(Parse(R"({"text": "a"})").set, "");
}

// Valid JSON that simdjson has no number for.
TEST(JsonLineTest, NumberBeyond64Bits_IsNoReasonToDropALine) {
  EXPECT_EQ(Parse(R"({"id": 123456789012345678901234567890, "text": "a"})").text, "a");
}

// Whatever a line is cut to, both parsers must agree on what it is.
TEST(JsonLineTest, EveryPrefix_IsWhatTheReferenceSays) {
  const std::string line =
      R"({"meta": {"redpajama_set_name": "C4", "n": [1, -2.5e3, true, null]}, "text": "a\u0041b"})";
  for (size_t size = 0; size <= line.size(); ++size) {
    const std::string prefix = line.substr(0, size);
    EXPECT_EQ(Parse(prefix).text.has_value(), Json::accept(prefix)) << prefix;
  }
}

}  // namespace
}  // namespace moe::sampler
