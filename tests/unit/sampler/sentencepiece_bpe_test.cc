#include "sampler/tokenizer/sentencepiece_bpe.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "sampler/tokenizer/sentencepiece_model.h"

namespace moe::sampler {
namespace {

// Protobuf's wire format, as much as a model needs.
std::string Varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
std::string Number(int field, uint64_t value) {
  return Varint(static_cast<uint64_t>(field) << 3) + Varint(value);
}
std::string Bytes(int field, const std::string& value) {
  return Varint(static_cast<uint64_t>(field) << 3 | 2) + Varint(value.size()) + value;
}
std::string Piece(const std::string& text, float score, int type) {
  std::string bits(sizeof score, '\0');
  std::memcpy(bits.data(), &score, sizeof score);
  return Bytes(1,
               Bytes(1, text) + Varint(2 << 3 | 5) + bits + Number(3, static_cast<uint64_t>(type)));
}

// A model of LLaMA's kind with few pieces, some of equal score.
std::string Model(const std::string& normalizer, int extra_type = 1) {
  std::string model = Piece("<unk>", 0, 2) + Piece("<s>", 0, 3) + Piece("</s>", 0, 3);
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    model += Piece(name, 0, 6);
  }
  float score = 0;
  for (const char* text : {"ab", "\u2581a", "bc", "\u2581\u2581", "abab", "\u2581ab", "cab", "aa",
                           "aaa", "b\u00e9", "\u00e9\u2581"}) {
    model += Piece(text, score -= 1, 1);
  }
  model += Piece("bb", -3, 1) + Piece("cc", -3, 1);  // as "bc"
  for (const char* text : {"\u2581", "a", "b", "c", "\u00e9"}) model += Piece(text, score -= 1, 1);
  model += Piece("extra", score - 1, extra_type);
  for (const char* text : {"e", "x", "t", "r"}) model += Piece(text, score -= 2, 1);
  return model + Bytes(2, Number(3, 2) + Number(35, 1)) + Bytes(3, normalizer);
}
std::string Plain() { return Number(3, 1) + Number(4, 0) + Number(5, 1); }

TEST(SentencePieceBpeTest, RandomText_GetsTheIdsOfTheLibrary) {
  const std::string model = Model(Plain());
  const auto bpe = SentencePieceBpe::FromModel(model);
  ASSERT_TRUE(bpe.has_value());
  SentencePieceModel library;
  ASSERT_EQ(library.Load(model), "");
  const char* const parts[] = {"a",      "b",      "c",  " ",      "a",    "b",
                               "\u00e9", "\u2581", "\n", "\u4e16", "extra"};
  std::mt19937 random(1227);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    // Now and then longer than what is merged without a heap.
    for (size_t i = random() % (round % 50 == 0 ? 200 : 16); i > 0; --i) {
      text += parts[random() % std::size(parts)];
    }
    std::vector<int32_t> ids, expected;
    bpe->Encode(text, ids);
    ASSERT_EQ(library.Encode(text, expected), "");
    ASSERT_EQ(ids, expected) << testing::PrintToString(text);
  }
}

TEST(SentencePieceBpeTest, OtherKindsOfModel_AreLeftToTheLibrary) {
  EXPECT_FALSE(SentencePieceBpe::FromModel(Model(Plain(), /*extra_type=*/4)).has_value())
      << "a user-defined piece";
  EXPECT_FALSE(SentencePieceBpe::FromModel(Model(Number(3, 0) + Number(4, 0))).has_value())
      << "no blank before the text";
  EXPECT_FALSE(SentencePieceBpe::FromModel(Model(Number(3, 1))).has_value())
      << "extra blanks are removed";
  EXPECT_FALSE(SentencePieceBpe::FromModel(Model(Bytes(2, "map") + Plain())).has_value())
      << "a normalisation";
  EXPECT_FALSE(SentencePieceBpe::FromModel("no protobuf").has_value());
  EXPECT_FALSE(
      SentencePieceBpe::FromModel(Model(Plain()).substr(0, Model(Plain()).size() - 1)).has_value());
}

}  // namespace
}  // namespace moe::sampler
