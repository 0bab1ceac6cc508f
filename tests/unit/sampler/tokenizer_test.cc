#include "sampler/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "common/file.h"
#include "common/json.h"
#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/storage/gguf_builder.h"

namespace moe::sampler {
namespace {

using Ids = std::vector<int32_t>;
using artefacts::GgufValueType;

std::string TestData(const std::string& name) {
  const char* source = std::getenv("MOE_SOURCE_DIR");
  MOE_CHECK(source != nullptr);  // set by ctest
  return std::string(source) + "/tests/unit/sampler/testdata/" + name;
}

Json TokenizerJson() { return *ReadJsonFile(TestData("tokenizer.json")); }

absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(const Json& tokenizer,
                                                    const Json& config = Json()) {
  TokenizerFiles files;
  files.source = "test.json";
  files.files["tokenizer.json"] = tokenizer.dump();
  if (!config.is_null()) files.files["tokenizer_config.json"] = config.dump();
  return MakeTokenizer(std::move(files));
}

Ids Encode(const Tokenizer& tokenizer, const std::string& text) {
  const auto ids = tokenizer.Encode(text);
  EXPECT_TRUE(ids.ok()) << ToString(ids.status());
  return ids.ok() ? *ids : Ids();
}

const char kLlama3Split[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Json WithLlama3Split(Json tokenizer) {
  tokenizer["pre_tokenizer"] = Json::parse(R"({"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": ""}, "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})");
  tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = kLlama3Split;
  return tokenizer;
}

// testdata/make_golden.py made the ids with Hugging Face tokenizers; tests/numerics/
// tokenizer_oracle.py compares on real text and real vocabularies.
TEST(TokenizerTest, GoldenTexts_GiveTheIdsOfTheReference) {
  const Json golden = *ReadJsonFile(TestData("golden_ids.json"));
  for (const char* split : {"smollm", "llama3"}) {
    const Json json =
        split == std::string("smollm") ? TokenizerJson() : WithLlama3Split(TokenizerJson());
    const auto tokenizer = FromJson(json);
    ASSERT_TRUE(tokenizer.ok()) << ToString(tokenizer.status());
    for (size_t i = 0; i < golden["texts"].size(); ++i) {
      const std::string text = golden["texts"][i];
      EXPECT_EQ(Encode(**tokenizer, text), golden[split][i].get<Ids>()) << split << ": " << text;
    }
  }
}

TEST(TokenizerTest, Decode_RestoresWhateverTheVocabularyCanSpell) {
  const auto tokenizer = OpenTokenizer(TestData("tokenizer.json"));
  ASSERT_TRUE(tokenizer.ok());
  for (const std::string text :
       {"The dataset, 123.\n\t x", "na\xC3\xAFve \xE4\xB8\xAD <|im_start|>", "<think>"}) {
    EXPECT_EQ((*tokenizer)->Decode(Encode(**tokenizer, text)), text);
  }
  EXPECT_EQ((*tokenizer)->Decode(Ids{-1, 1 << 20}), "");
}

TEST(TokenizerTest, InvalidUtf8_CountsAsReplacementCharacters) {
  const auto tokenizer = OpenTokenizer(TestData("tokenizer.json"));
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_EQ(Encode(**tokenizer, "a\xFF\xE4\xB8z"),
            Encode(**tokenizer, "a\xEF\xBF\xBD\xEF\xBF\xBDz"));
}

TEST(TokenizerTest, LongWord_TakesNoQuadraticTime) {
  const auto tokenizer = OpenTokenizer(TestData("tokenizer.json"));
  ASSERT_TRUE(tokenizer.ok());
  // A quadratic merge loop needs hours for this; the time-out of the test is two minutes.
  const std::string word(4'000'000, 'a');
  EXPECT_EQ((*tokenizer)->Decode(Encode(**tokenizer, word)), word);
}

TEST(TokenizerTest, WrittenFiles_AreReadBackIdentically) {
  TemporaryFolder folder;
  const auto tokenizer = OpenTokenizer(TestData("tokenizer.json"));
  ASSERT_TRUE(tokenizer.ok());
  ASSERT_TRUE(WriteTokenizerFiles((*tokenizer)->files(), folder.path()).ok());
  const auto again = OpenTokenizer(folder.path());
  ASSERT_TRUE(again.ok()) << ToString(again.status());
  EXPECT_EQ((*again)->files().files, (*tokenizer)->files().files);
  EXPECT_EQ((*again)->files().crc32c(), (*tokenizer)->files().crc32c());
}

TEST(TokenizerTest, Settings_ComeFromTheConfigAndTheTemplate) {
  const auto plain = FromJson(TokenizerJson());
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ((*plain)->settings().vocab_size, 702);
  EXPECT_EQ((*plain)->settings().bos_id, -1);
  EXPECT_FALSE((*plain)->settings().add_bos);

  Json with_template = TokenizerJson();
  with_template["post_processor"] = Json::parse(R"({"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}},
                 {"Sequence": {"id": "A", "type_id": 0}}]})");
  const auto templated = FromJson(with_template);
  ASSERT_TRUE(templated.ok());
  EXPECT_EQ((*templated)->settings().bos_id, 1);
  EXPECT_TRUE((*templated)->settings().add_bos);

  const auto configured = FromJson(with_template, {{"bos_token", {{"content", "<|endoftext|>"}}},
                                                   {"eos_token", "<|im_end|>"},
                                                   {"add_bos_token", false}});
  ASSERT_TRUE(configured.ok());
  EXPECT_EQ((*configured)->settings().bos_id, 0);
  EXPECT_EQ((*configured)->settings().eos_id, 2);
  EXPECT_FALSE((*configured)->settings().add_bos);
}

TEST(TokenizerTest, WhatIsNotSupported_IsRefusedByName) {
  const auto error_of = [](const auto& change) {
    Json json = TokenizerJson();
    change(json);
    const auto tokenizer = FromJson(json);
    EXPECT_TRUE(absl::IsInvalidArgument(tokenizer.status())) << ToString(tokenizer.status());
    return Message(tokenizer.status());
  };
  using testing::HasSubstr;
  EXPECT_THAT(error_of([](Json& j) { j["normalizer"] = {{"type", "NFC"}}; }), HasSubstr("NFC"));
  EXPECT_THAT(error_of([](Json& j) { j["model"]["type"] = "Unigram"; }), HasSubstr("Unigram"));
  EXPECT_THAT(error_of([](Json& j) { j["model"]["byte_fallback"] = true; }),
              HasSubstr("byte_fallback"));
  EXPECT_THAT(error_of([](Json& j) {
                j["pre_tokenizer"] = {{"type", "Metaspace"}};
              }),
              HasSubstr("Metaspace"));
  EXPECT_THAT(error_of([](Json& j) { j["added_tokens"][0]["lstrip"] = true; }),
              HasSubstr("lstrip"));
  EXPECT_THAT(error_of([](Json& j) { j["model"]["merges"].push_back("zz qq"); }),
              HasSubstr("vocabulary"));
  EXPECT_THAT(error_of([](Json& j) { j["model"]["vocab"]["a"] = "x"; }), HasSubstr("id"));
  EXPECT_THAT(error_of([](Json& j) { j.erase("pre_tokenizer"); }), HasSubstr("pre_tokenizer"));
}

TEST(TokenizerTest, PathWithoutATokenizer_IsRefusedSayingWhatToPass) {
  TemporaryFolder folder;
  EXPECT_TRUE(absl::IsNotFound(OpenTokenizer(folder.File("missing")).status()));
  EXPECT_TRUE(absl::IsNotFound(OpenTokenizer(folder.path()).status()));
  folder.Write("text.txt", "no tokenizer");
  EXPECT_TRUE(absl::IsInvalidArgument(OpenTokenizer(folder.File("text.txt")).status()));
  folder.Write("tokenizer.model", "no protobuf");
  EXPECT_TRUE(absl::IsInvalidArgument(OpenTokenizer(folder.path()).status()));
}

artefacts::GgufBuilder ByteLevelGguf(const std::string& pre) {
  const Json json = TokenizerJson();
  std::vector<std::string> tokens(702);
  std::vector<int32_t> types(702, 1);
  for (const auto& [token, id] : json["model"]["vocab"].items()) tokens[id] = token;
  for (const Json& token : json["added_tokens"]) {
    tokens[token["id"]] = token["content"];
    types[token["id"]] = token["special"] ? 3 : 4;
  }
  std::vector<std::string> merges;
  for (const Json& merge : json["model"]["merges"]) {
    merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  artefacts::GgufBuilder gguf;
  gguf.String("tokenizer.ggml.model", "gpt2");
  gguf.String("tokenizer.ggml.pre", pre);
  gguf.Strings("tokenizer.ggml.tokens", tokens);
  gguf.Array("tokenizer.ggml.token_type", GgufValueType::kInt32, types.size(),
             artefacts::Bytes(types));
  gguf.Strings("tokenizer.ggml.merges", merges);
  gguf.Uint32("tokenizer.ggml.bos_token_id", 1);
  gguf.Uint32("tokenizer.ggml.eos_token_id", 2);
  return gguf;
}

TEST(GgufTokenizerTest, ByteLevelVocabulary_EncodesLikeItsTokenizerJson) {
  TemporaryFolder folder;
  const auto tokenizer = OpenTokenizer(folder.Write("model.gguf", ByteLevelGguf("smollm").Build()));
  ASSERT_TRUE(tokenizer.ok()) << ToString(tokenizer.status());
  EXPECT_EQ((*tokenizer)->settings().vocab_size, 702);
  EXPECT_EQ((*tokenizer)->settings().bos_id, 1);
  EXPECT_EQ((*tokenizer)->settings().eos_id, 2);
  EXPECT_FALSE((*tokenizer)->settings().add_bos);
  const Json golden = *ReadJsonFile(TestData("golden_ids.json"));
  for (size_t i = 0; i < golden["texts"].size(); ++i) {
    const std::string text = golden["texts"][i];
    EXPECT_EQ(Encode(**tokenizer, text), golden["smollm"][i].get<Ids>()) << text;
  }
}

TEST(GgufTokenizerTest, AddBos_IsKeptInTheWrittenFiles) {
  TemporaryFolder folder;
  artefacts::GgufBuilder gguf = ByteLevelGguf("smollm");
  gguf.Raw("tokenizer.ggml.add_bos_token", GgufValueType::kBool, "\x01");
  const auto files = ReadTokenizerFiles(folder.Write("model.gguf", gguf.Build()));
  ASSERT_TRUE(files.ok()) << ToString(files.status());
  const auto tokenizer =
      MakeTokenizer({.files = {{"tokenizer.json", files->files.at("tokenizer.json")}},
                     .source = "without its config"});
  ASSERT_TRUE(tokenizer.ok()) << ToString(tokenizer.status());
  EXPECT_TRUE((*tokenizer)->settings().add_bos);
  EXPECT_EQ((*tokenizer)->settings().bos_id, 1);
}

TEST(GgufTokenizerTest, UnknownPreTokenizer_IsRefusedNamingTheKnownOnes) {
  TemporaryFolder folder;
  const auto tokenizer =
      OpenTokenizer(folder.Write("model.gguf", ByteLevelGguf("mystery").Build()));
  EXPECT_THAT(Message(tokenizer.status()),
              testing::AllOf(testing::HasSubstr("mystery"), testing::HasSubstr("smollm")));
}

TEST(GgufTokenizerTest, SentencePieceVocabulary_BecomesAModelThatTheLibraryLoads) {
  TemporaryFolder folder;
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types = {2, 3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(fmt::format("<0x{:02X}>", byte));
    types.push_back(6);
  }
  for (const char* token : {"\xE2\x96\x81", "a", "b", "ab",
                            "\xE2\x96\x81"
                            "ab"}) {
    tokens.push_back(token);
    types.push_back(1);
  }
  std::vector<float> scores(tokens.size(), 0);
  scores[262] = -1;  // ab
  scores[263] = -2;  // _ab
  artefacts::GgufBuilder gguf;
  gguf.String("tokenizer.ggml.model", "llama");
  gguf.Strings("tokenizer.ggml.tokens", tokens);
  gguf.Array("tokenizer.ggml.scores", GgufValueType::kFloat32, scores.size(),
             artefacts::Bytes(scores));
  gguf.Array("tokenizer.ggml.token_type", GgufValueType::kInt32, types.size(),
             artefacts::Bytes(types));
  gguf.Uint32("tokenizer.ggml.bos_token_id", 1);
  gguf.Uint32("tokenizer.ggml.eos_token_id", 2);
  gguf.Uint32("tokenizer.ggml.unknown_token_id", 0);
  const auto tokenizer = OpenTokenizer(folder.Write("model.gguf", gguf.Build()));
  ASSERT_TRUE(tokenizer.ok()) << ToString(tokenizer.status());
  EXPECT_EQ((*tokenizer)->settings().bos_id, 1);
  EXPECT_TRUE((*tokenizer)->settings().add_bos);
  EXPECT_EQ(Encode(**tokenizer, "ab abc"), (Ids{263, 263, 3 + 'c'}));
  EXPECT_EQ((*tokenizer)->Decode(Ids{263, 263, 3 + 'c'}), "ab abc");
}

}  // namespace
}  // namespace moe::sampler
