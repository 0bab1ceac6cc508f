#include "sampler/conversation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"

namespace moe::sampler {
namespace {

using testing::HasSubstr;

TEST(ParseConversation, BothForms_GiveTheSame) {
  for (const std::string line : {
           R"({"messages": [{"role": "system", "content": "Be brief."},
               {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"},
               {"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes."}]})",
           R"({"system_prompt": "Be brief.", "id": 7, "conversations": [
               {"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"},
               {"from": "human", "value": "Sure?"}, {"from": "gpt", "value": "Yes."}]})"}) {
    const auto conversation = ParseConversation(line);
    ASSERT_TRUE(conversation.ok()) << ToString(conversation.status());
    EXPECT_EQ(conversation->system, "Be brief.");
    ASSERT_EQ(conversation->exchanges.size(), 2u);
    EXPECT_EQ(conversation->exchanges[0].question, "2+2?");
    EXPECT_EQ(conversation->exchanges[1].answer, "Yes.");
  }
}

TEST(ParseConversation, WhatHasNoQuestionOrNoAnswer_IsLeftOut) {
  const auto conversation = ParseConversation(
      R"({"conversations": [{"from": "gpt", "value": "Hello."}, {"from": "human", "value": "a"},
          {"from": "gpt", "value": "b"}, {"from": "human", "value": "c"}]})");
  ASSERT_TRUE(conversation.ok()) << ToString(conversation.status());
  EXPECT_FALSE(conversation->system.has_value());
  ASSERT_EQ(conversation->exchanges.size(), 1u);
  EXPECT_EQ(conversation->exchanges[0].answer, "b");
}

TEST(ParseConversation, WhatIsNoConversation_IsRefusedByName) {
  const auto problem = [](const std::string& line) {
    return ToString(ParseConversation(line).status());
  };
  EXPECT_THAT(problem("{"), HasSubstr("not a JSON object"));
  EXPECT_THAT(problem(R"({"text": "a"})"), HasSubstr("no list of turns"));
  EXPECT_THAT(problem(R"({"messages": []})"), HasSubstr("no turn of the assistant"));
  EXPECT_THAT(problem(R"({"messages": [{"role": "tool", "content": "a"}]})"),
              HasSubstr("role \"tool\""));
  EXPECT_THAT(problem(R"({"messages": [{"role": "user", "content": ["a"]}]})"),
              HasSubstr("no text in \"content\""));
  EXPECT_THAT(problem(R"({"messages": [{"role": "user", "content": "a"},
                                       {"role": "user", "content": "b"}]})"),
              HasSubstr("two turns of the user"));
  EXPECT_THAT(problem(R"({"messages": [{"role": "user", "content": "a"},
                                       {"role": "assistant", "content": "b"},
                                       {"role": "assistant", "content": "c"}]})"),
              HasSubstr("two turns of the assistant"));
  EXPECT_THAT(problem(R"({"messages": [{"role": "user", "content": "a"},
                                       {"role": "system", "content": "b"}]})"),
              HasSubstr("after the first user's"));
  EXPECT_THAT(problem(R"({"system_prompt": 1, "messages": []})"), HasSubstr("system_prompt"));
}

}  // namespace
}  // namespace moe::sampler
