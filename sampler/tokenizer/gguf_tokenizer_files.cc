#include "sampler/tokenizer/gguf_tokenizer_files.h"

#include <algorithm>
#include <cstring>

#include "common/json.h"
#include "common/status.h"

namespace moe::sampler {
namespace {

// Values of tokenizer.ggml.token_type; the same numbers as in a SentencePiece model.
enum TokenType : int64_t { kNormal = 1, kControl = 3, kUserDefined = 4 };

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<int64_t> types;                                          // as long as tokens
  int64_t bos_id = -1, eos_id = -1, unknown_id = -1, padding_id = -1;  // -1: none
  bool add_bos = false;
};

absl::StatusOr<int64_t> OptionalTokenId(const artefacts::GgufFile& gguf, const std::string& key,
                                        size_t vocab_size) {
  if (!gguf.Has(key)) return int64_t{-1};
  MOE_ASSIGN_OR_RETURN(const int64_t id, gguf.Int(key));
  if (id < 0 || static_cast<size_t>(id) >= vocab_size) {
    return InvalidArgument("{}: {} is {}, outside the vocabulary of {}", gguf.path(), key, id,
                           vocab_size);
  }
  return id;
}

absl::StatusOr<Vocabulary> ReadVocabulary(const artefacts::GgufFile& gguf, bool default_add_bos) {
  Vocabulary vocabulary;
  MOE_ASSIGN_OR_RETURN(vocabulary.tokens, gguf.Strings("tokenizer.ggml.tokens"));
  const size_t size = vocabulary.tokens.size();
  vocabulary.types.assign(size, kNormal);
  if (gguf.Has("tokenizer.ggml.token_type")) {
    MOE_ASSIGN_OR_RETURN(vocabulary.types, gguf.Ints("tokenizer.ggml.token_type"));
    if (vocabulary.types.size() != size) {
      return InvalidArgument("{}: {} tokens have {} token types", gguf.path(), size,
                             vocabulary.types.size());
    }
  }
  MOE_ASSIGN_OR_RETURN(vocabulary.bos_id,
                       OptionalTokenId(gguf, "tokenizer.ggml.bos_token_id", size));
  MOE_ASSIGN_OR_RETURN(vocabulary.eos_id,
                       OptionalTokenId(gguf, "tokenizer.ggml.eos_token_id", size));
  MOE_ASSIGN_OR_RETURN(vocabulary.unknown_id,
                       OptionalTokenId(gguf, "tokenizer.ggml.unknown_token_id", size));
  MOE_ASSIGN_OR_RETURN(vocabulary.padding_id,
                       OptionalTokenId(gguf, "tokenizer.ggml.padding_token_id", size));
  vocabulary.add_bos = default_add_bos;
  if (gguf.Has("tokenizer.ggml.add_bos_token")) {
    MOE_ASSIGN_OR_RETURN(vocabulary.add_bos, gguf.Bool("tokenizer.ggml.add_bos_token"));
  }
  return vocabulary;
}

absl::StatusOr<std::string> Config(const artefacts::GgufFile& gguf, const Vocabulary& vocabulary,
                                   const std::string& tokenizer_class) {
  Json config = {{"tokenizer_class", tokenizer_class},
                 {"add_bos_token", vocabulary.add_bos},
                 {"add_eos_token", false},
                 {"clean_up_tokenization_spaces", false}};
  const std::pair<const char*, int64_t> named[] = {{"bos_token", vocabulary.bos_id},
                                                   {"eos_token", vocabulary.eos_id},
                                                   {"unk_token", vocabulary.unknown_id},
                                                   {"pad_token", vocabulary.padding_id}};
  for (const auto& [name, id] : named) {
    if (id >= 0) config[name] = vocabulary.tokens[static_cast<size_t>(id)];
  }
  if (gguf.Has("tokenizer.chat_template")) {
    MOE_ASSIGN_OR_RETURN(config["chat_template"], gguf.String("tokenizer.chat_template"));
  }
  if (gguf.Has("general.architecture")) {
    MOE_ASSIGN_OR_RETURN(const std::string architecture, gguf.String("general.architecture"));
    const std::string key = architecture + ".context_length";
    if (gguf.Has(key)) {
      MOE_ASSIGN_OR_RETURN(config["model_max_length"], gguf.Int(key));
    }
  }
  return config.dump(2) + "\n";
}

Json ByteLevelStep(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json SplitStep(const std::string& pattern) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

// What the names of tokenizer.ggml.pre stand for, as the tokenizer.json of the original models
// says it (and llama.cpp repeats it in C++).
absl::StatusOr<Json> PreTokenizer(const std::string& name, const std::string& path) {
  if (name == "smollm" || name == "starcoder" || name == "refact") {
    return Json{{"type", "Sequence"},
                {"pretokenizers",
                 {{{"type", "Digits"}, {"individual_digits", true}}, ByteLevelStep(true)}}};
  }
  if (name == "gpt-2") return ByteLevelStep(true);
  std::string pattern;
  if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") {
    pattern =
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  } else {
    return InvalidArgument(
        "{}: tokenizer.ggml.pre is '{}', and how that splits text is not known here (known: "
        "gpt-2, llama-bpe, refact, smollm, starcoder); pass the model's tokenizer.json",
        path, name);
  }
  return Json{{"type", "Sequence"}, {"pretokenizers", {SplitStep(pattern), ByteLevelStep(false)}}};
}

absl::StatusOr<TokenizerFiles> FromByteLevelBpe(const artefacts::GgufFile& gguf) {
  MOE_ASSIGN_OR_RETURN(const Vocabulary vocabulary,
                       ReadVocabulary(gguf, /*default_add_bos=*/false));
  if (!gguf.Has("tokenizer.ggml.pre")) {
    return InvalidArgument(
        "{} has no tokenizer.ggml.pre, so how its tokenizer splits text is unknown; pass the "
        "model's tokenizer.json",
        gguf.path());
  }
  MOE_ASSIGN_OR_RETURN(const std::string pre, gguf.String("tokenizer.ggml.pre"));
  MOE_ASSIGN_OR_RETURN(const Json pre_tokenizer, PreTokenizer(pre, gguf.path()));
  MOE_ASSIGN_OR_RETURN(const std::vector<std::string> merges,
                       gguf.Strings("tokenizer.ggml.merges"));

  Json vocab = Json::object();
  Json added_tokens = Json::array();
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string& token = vocabulary.tokens[id];
    if (!vocab.emplace(token, id).second) {
      return InvalidArgument("{}: token '{}' is in the vocabulary twice, as {} and {}", gguf.path(),
                             token, vocab[token].get<size_t>(), id);
    }
    const int64_t type = vocabulary.types[id];
    if (type == kControl || type == kUserDefined) {
      added_tokens.push_back({{"id", id},
                              {"content", token},
                              {"single_word", false},
                              {"lstrip", false},
                              {"rstrip", false},
                              {"normalized", false},
                              {"special", type == kControl}});
    }
  }
  Json post_processor;
  if (vocabulary.add_bos) {
    if (vocabulary.bos_id < 0) {
      return InvalidArgument("{}: tokenizer.ggml.add_bos_token without a bos_token_id",
                             gguf.path());
    }
    const std::string& bos = vocabulary.tokens[static_cast<size_t>(vocabulary.bos_id)];
    const Json special = {{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
    const Json a = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
    const Json b = {{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
    const Json special_b = {{"SpecialToken", {{"id", bos}, {"type_id", 1}}}};
    post_processor = {
        {"type", "TemplateProcessing"},
        {"single", Json::array({special, a})},
        {"pair", Json::array({special, a, special_b, b})},
        {"special_tokens",
         {{bos, {{"id", bos}, {"ids", {vocabulary.bos_id}}, {"tokens", Json::array({bos})}}}}}};
  }
  const bool llama3 = pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3";
  const Json tokenizer = {{"version", "1.0"},
                          {"truncation", nullptr},
                          {"padding", nullptr},
                          {"added_tokens", std::move(added_tokens)},
                          {"normalizer", nullptr},
                          {"pre_tokenizer", pre_tokenizer},
                          {"post_processor", std::move(post_processor)},
                          {"decoder", ByteLevelStep(true)},
                          {"model",
                           {{"type", "BPE"},
                            {"dropout", nullptr},
                            {"unk_token", nullptr},
                            {"continuing_subword_prefix", nullptr},
                            {"end_of_word_suffix", nullptr},
                            {"fuse_unk", false},
                            {"byte_fallback", false},
                            {"ignore_merges", llama3},
                            {"vocab", std::move(vocab)},
                            {"merges", merges}}}};
  TokenizerFiles result;
  result.source = gguf.path();
  result.files["tokenizer.json"] = tokenizer.dump(1) + "\n";
  MOE_ASSIGN_OR_RETURN(result.files["tokenizer_config.json"],
                       Config(gguf, vocabulary, "PreTrainedTokenizerFast"));
  return result;
}

// A protobuf message, field by field (sentencepiece_model.proto): the library itself would bring
// protobuf into every program that only copies tokenizers.
class WireMessage {
 public:
  void Bytes(int field, const std::string& value) {
    Varint(static_cast<uint64_t>(field) << 3 | 2);
    Varint(value.size());
    bytes_ += value;
  }
  void Float(int field, float value) {
    Varint(static_cast<uint64_t>(field) << 3 | 5);
    char raw[4];
    std::memcpy(raw, &value, 4);
    bytes_.append(raw, 4);
  }
  void Int(int field, int64_t value) {
    Varint(static_cast<uint64_t>(field) << 3);
    Varint(static_cast<uint64_t>(value));
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void Varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

absl::StatusOr<TokenizerFiles> FromSentencePiece(const artefacts::GgufFile& gguf) {
  MOE_ASSIGN_OR_RETURN(const Vocabulary vocabulary, ReadVocabulary(gguf, /*default_add_bos=*/true));
  MOE_ASSIGN_OR_RETURN(const std::vector<double> scores, gguf.Doubles("tokenizer.ggml.scores"));
  if (scores.size() != vocabulary.tokens.size()) {
    return InvalidArgument("{}: {} tokens have {} scores", gguf.path(), vocabulary.tokens.size(),
                           scores.size());
  }
  bool add_space_prefix = true;
  if (gguf.Has("tokenizer.ggml.add_space_prefix")) {
    MOE_ASSIGN_OR_RETURN(add_space_prefix, gguf.Bool("tokenizer.ggml.add_space_prefix"));
  }
  WireMessage model;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    WireMessage piece;
    piece.Bytes(1, vocabulary.tokens[id]);
    piece.Float(2, static_cast<float>(scores[id]));
    piece.Int(3, vocabulary.types[id]);
    model.Bytes(1, piece.bytes());
  }
  WireMessage trainer;
  trainer.Int(3, 2);   // model_type: BPE
  trainer.Int(35, 1);  // byte_fallback
  trainer.Int(40, std::max<int64_t>(vocabulary.unknown_id, 0));
  trainer.Int(41, vocabulary.bos_id);
  trainer.Int(42, vocabulary.eos_id);
  trainer.Int(43, vocabulary.padding_id);
  model.Bytes(2, trainer.bytes());
  WireMessage normalizer;
  normalizer.Bytes(1, "identity");
  normalizer.Int(3, add_space_prefix ? 1 : 0);  // add_dummy_prefix
  normalizer.Int(4, 0);                         // remove_extra_whitespaces
  normalizer.Int(5, 1);                         // escape_whitespaces
  model.Bytes(3, normalizer.bytes());

  TokenizerFiles result;
  result.source = gguf.path();
  result.files["tokenizer.model"] = model.bytes();
  MOE_ASSIGN_OR_RETURN(result.files["tokenizer_config.json"],
                       Config(gguf, vocabulary, "LlamaTokenizer"));
  return result;
}

}  // namespace

absl::StatusOr<TokenizerFiles> TokenizerFilesFromGguf(const artefacts::GgufFile& gguf) {
  MOE_ASSIGN_OR_RETURN(const std::string model, gguf.String("tokenizer.ggml.model"));
  if (model == "gpt2") return FromByteLevelBpe(gguf);
  if (model == "llama") return FromSentencePiece(gguf);
  return InvalidArgument(
      "{}: tokenizer.ggml.model is '{}'; 'gpt2' (byte-level BPE) and 'llama' (SentencePiece) can "
      "be read",
      gguf.path(), model);
}

}  // namespace moe::sampler
