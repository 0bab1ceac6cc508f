#include "sampler/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>

#include "common/check.h"
#include "common/json.h"
#include "common/status.h"

namespace moe::sampler {
namespace {

using testing::HasSubstr;

// SmolLM2's chat template, which puts a system prompt of its own.
constexpr char kSmolLm2[] =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}";

// A byte-level BPE with <|endoftext|>, <|im_start|> and <|im_end|>.
std::unique_ptr<Tokenizer> MakeTokenizerWith(const Json& config) {
  const char* source = std::getenv("MOE_SOURCE_DIR");
  MOE_CHECK(source != nullptr);  // set by ctest
  auto files =
      ReadTokenizerFiles(std::string(source) + "/tests/unit/sampler/testdata/tokenizer.json");
  MOE_CHECK(files.ok());
  files->files["tokenizer_config.json"] = config.dump();
  auto tokenizer = MakeTokenizer(*std::move(files));
  MOE_CHECK(tokenizer.ok());
  return *std::move(tokenizer);
}

Json Config() { return {{"bos_token", "<|endoftext|>"}, {"eos_token", "<|endoftext|>"}}; }

// What counts in the loss stands in brackets.
std::string Marked(const EncodedConversation& encoded, const Tokenizer& tokenizer) {
  std::string text;
  bool inside = false;
  for (size_t t = 0; t < encoded.tokens.size(); ++t) {
    if (encoded.is_target[t] != inside) text += inside ? "]" : "[";
    inside = encoded.is_target[t];
    text += tokenizer.Decode(std::vector<int32_t>{encoded.tokens[t]});
  }
  return inside ? text + "]" : text;
}

std::string Encoded(const std::string& name, const Conversation& conversation,
                    const Json& config = Config(), bool add_bos = false) {
  const auto tokenizer = MakeTokenizerWith(config);
  const auto chat = FindChatTemplate(name, *tokenizer);
  if (!chat.ok()) return ToString(chat.status());
  const auto encoded = EncodeConversation(*chat, conversation, *tokenizer, add_bos);
  return encoded.ok() ? Marked(*encoded, *tokenizer) : ToString(encoded.status());
}

const Conversation kTwo = {.system = std::nullopt,
                           .exchanges = {{"What is 2+2?", "It is 4."}, {" Sure? ", "Yes."}}};
const Conversation kWithSystem = {.system = "Be brief.", .exchanges = {{"Hi", "Hello"}}};

TEST(EncodeConversation, Vicuna_AsPublished) {
  EXPECT_EQ(Encoded("vicuna", kTwo),
            " USER: What is 2+2? ASSISTANT:[ It is 4.<|endoftext|>]USER:  Sure?  ASSISTANT:[ Yes."
            "<|endoftext|>]");
  EXPECT_EQ(Encoded("vicuna", kWithSystem, Config(), /*add_bos=*/true),
            "<|endoftext|>Be brief. USER: Hi ASSISTANT:[ Hello<|endoftext|>]");
  EXPECT_EQ(Encoded("vicuna", {.system = "", .exchanges = {{"Hi", ""}}}),
            " USER: Hi ASSISTANT:[<|endoftext|>]");
}

TEST(EncodeConversation, ChatMl_CountsAnswersAndTheirEnds) {
  EXPECT_EQ(
      Encoded("chatml", kTwo),
      "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n[It is 4.<|im_end|>]\n"
      "<|im_start|>user\n Sure? <|im_end|>\n<|im_start|>assistant\n[Yes.<|im_end|>]\n");
}

TEST(EncodeConversation, Llama2_PutsTheSystemPromptIntoTheFirstQuestion) {
  EXPECT_EQ(Encoded("llama2", kWithSystem),
            "<|endoftext|>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST][ Hello <|endoftext|>]");
  EXPECT_EQ(Encoded("llama2", kTwo),
            "<|endoftext|>[INST] What is 2+2? [/INST][ It is 4. <|endoftext|>]<|endoftext|>[INST] "
            "Sure? [/INST][ Yes. <|endoftext|>]");
}

TEST(EncodeConversation, TokenizersOwnTemplate_IsFoundWithItsSystemPrompt) {
  Json config = Config();
  config["chat_template"] = kSmolLm2;
  EXPECT_EQ(Encoded("tokenizer", {.system = std::nullopt, .exchanges = {{"Hi", "Hello"}}}, config),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
            "Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
            "[Hello<|im_end|>]\n");
  EXPECT_THAT(Encoded("tokenizer", kWithSystem, config),
              testing::StartsWith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user"));
  EXPECT_EQ(DefaultChatTemplate(*MakeTokenizerWith(config)), "tokenizer");
  EXPECT_EQ(DefaultChatTemplate(*MakeTokenizerWith(Config())), "vicuna");
}

TEST(EncodeConversation, MarkersInAText_AreRefused) {
  EXPECT_THAT(Encoded("chatml", {.system = "", .exchanges = {{"a<|im_end|>b", "c"}}}),
              HasSubstr("<|im_end|>, which would end it"));
  EXPECT_THAT(Encoded("vicuna", {.system = "", .exchanges = {{"a", "b<|endoftext|>"}}}),
              HasSubstr("<|endoftext|>, which would end it"));
  EXPECT_THAT(Encoded("vicuna", {.system = "", .exchanges = {{"a<|im_end|>", "b"}}}),
              HasSubstr("ASSISTANT:[ b"))
      << "no marker of this template";
}

TEST(FindChatTemplate, WhatIsNotKnownOrDoesNotFit_IsRefusedWithWhatToUse) {
  EXPECT_THAT(Encoded("alpaca", kTwo),
              testing::AllOf(HasSubstr("'alpaca'"), HasSubstr("vicuna, chatml, llama2 or llama3")));
  EXPECT_THAT(Encoded("tokenizer", kTwo), HasSubstr("has no chat template"));
  EXPECT_THAT(Encoded("llama3", kTwo), HasSubstr("needs the token <|start_header_id|>"));
  EXPECT_THAT(Encoded("vicuna", kTwo, Json::object()), HasSubstr("end-of-sequence token"));
  Json config = Config();
  config["chat_template"] = "{% for m in messages %}{{ m['role'] | upper }}{% endfor %}";
  EXPECT_THAT(Encoded("tokenizer", kTwo, config), HasSubstr("none of those that are known"));
  config["chat_template"] = std::string(kSmolLm2) + "{{ reasoning_content }}";
  EXPECT_THAT(Encoded("tokenizer", kTwo, config), HasSubstr("none of those that are known"));
}

}  // namespace
}  // namespace moe::sampler
