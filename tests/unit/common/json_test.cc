#include "common/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(ParseJson, InvalidText_NamesTheSourceAndThePlace) {
  EXPECT_EQ((*ParseJson(R"({"a": [1, 2]})", "x"))["a"][1], 2);
  for (const char* text : {"", "{", "{} x", "{\"a\":}", "nan", "\"\xff\""}) {
    const auto json = ParseJson(text, "spec.json");
    EXPECT_EQ(json.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(Message(json.status()), HasSubstr("spec.json is not valid JSON"));
  }
  EXPECT_THAT(Message(ParseJson("{\n\"a\" 1}", "s").status()), HasSubstr("line 2, column 5"));
}

TEST(ReadJsonFile, ReadsAFile) {
  TemporaryFolder folder;
  EXPECT_EQ((*ReadJsonFile(folder.Write("f", "{\"a\":1}")))["a"], 1);
  EXPECT_EQ(ReadJsonFile(folder.File("absent")).status().code(), absl::StatusCode::kNotFound);
}

TEST(JsonReader, ReadsEveryType) {
  const Json json = {{"s", "text"},
                     {"i", -5},
                     {"text_int", "-9007199254740993"},
                     {"u", ~uint64_t{0}},
                     {"text_uint", "18446744073709551615"},
                     {"d", 0.5},
                     {"b", true},
                     {"strings", {"a", "b"}},
                     {"doubles", {1, 2.5}},
                     {"o", Json::object()},
                     {"null", nullptr}};
  JsonReader reader(json, "f");
  EXPECT_EQ(reader.String("s"), "text");
  EXPECT_EQ(reader.Int("i"), -5);
  EXPECT_EQ(reader.Int("text_int"), -9007199254740993);
  EXPECT_EQ(reader.Uint("u"), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(reader.Uint("text_uint"), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(reader.Double("d"), 0.5);
  EXPECT_EQ(reader.Double("i"), -5.0);
  EXPECT_TRUE(reader.Bool("b"));
  EXPECT_THAT(reader.Strings("strings"), ElementsAre("a", "b"));
  EXPECT_THAT(reader.Doubles("doubles"), ElementsAre(1.0, 2.5));
  EXPECT_TRUE(reader.Object("o").empty());
  EXPECT_EQ(reader.Int("absent", 7), 7);
  EXPECT_EQ(reader.String("null", "fallback"), "fallback");
  EXPECT_THAT(reader.Strings("absent"), IsEmpty());
  EXPECT_FALSE(reader.Has("null"));
  EXPECT_TRUE(reader.status().ok()) << ToString(reader.status());
}

TEST(JsonReader, RemembersTheFirstProblem) {
  const Json json = {{"a", 1}};
  JsonReader reader(json, "spec.json");
  EXPECT_EQ(reader.String("a"), "");
  EXPECT_EQ(reader.Int("b"), 0);
  EXPECT_EQ(reader.status(), InvalidArgument("spec.json: a: expected a string, got 1"));
}

void ExpectProblem(const Json& json, const std::string& message,
                   const std::function<void(JsonReader&)>& read) {
  JsonReader reader(json, "f");
  read(reader);
  EXPECT_EQ(reader.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(reader.status()), "f: " + message);
}

TEST(JsonReader, WrongTypes_AreProblems) {
  ExpectProblem(Json::array(), "expected a JSON object", [](auto&) {});
  ExpectProblem(Json::object(), "x: missing", [](auto& r) { r.Int("x"); });
  ExpectProblem({{"x", nullptr}}, "x: missing", [](auto& r) { r.Bool("x"); });
  ExpectProblem({{"x", 1.5}}, "x: expected an integer, got 1.5", [](auto& r) { r.Int("x"); });
  ExpectProblem({{"x", "5 "}}, "x: expected an integer, got \"5 \"", [](auto& r) { r.Int("x"); });
  ExpectProblem({{"x", uint64_t{1} << 63}}, "x: expected an integer, got 9223372036854775808",
                [](auto& r) { r.Int("x"); });
  ExpectProblem({{"x", -1}}, "x: expected an integer of at least 0, got -1",
                [](auto& r) { r.Uint("x"); });
  ExpectProblem({{"x", "1"}}, "x: expected a number, got \"1\"", [](auto& r) { r.Double("x"); });
  ExpectProblem({{"x", 1}}, "x: expected true or false, got 1", [](auto& r) { r.Bool("x"); });
  ExpectProblem({{"x", {1}}}, "x: expected an object, got [1]", [](auto& r) { r.Object("x"); });
  ExpectProblem({{"x", 1}}, "x: expected a list, got 1", [](auto& r) { r.Array("x"); });
  ExpectProblem({{"x", {"a", 1}}}, "x: expected a list of strings, got 1",
                [](auto& r) { r.Strings("x"); });
  ExpectProblem({{"x", 1}}, "x: expected a string, got 1", [](auto& r) { r.String("x", "y"); });
}

}  // namespace
}  // namespace moe
