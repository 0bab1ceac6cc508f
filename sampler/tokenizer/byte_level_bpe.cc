#include "sampler/tokenizer/byte_level_bpe.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "common/json.h"
#include "common/status.h"
#include "sampler/tokenizer/added_tokens.h"
#include "sampler/tokenizer/bpe_merger.h"
#include "sampler/tokenizer/byte_alphabet.h"
#include "sampler/tokenizer/gpt2_words.h"
#include "sampler/tokenizer/regex_splitter.h"
#include "sampler/utf8.h"

namespace moe::sampler {
namespace {

// The pre-tokenizer.
struct Splitters {
  std::vector<std::unique_ptr<RegexSplitter>> steps;  // each splits the pieces of the one before
  // What the steps come to, where gpt2_words.h can do it for ASCII.
  enum class Known { kNone, kGpt2, kSingleDigitsThenGpt2 } known = Known::kNone;
};

class ByteLevelBpe final : public Tokenizer {
 public:
  struct Parts {
    AddedTokens added_raw;         // found in the text as it is
    AddedTokens added_normalized;  // found in what is left; with no normalizer, the same text
    Splitters splitters;
    std::optional<BpeMerger> merger;
    std::vector<std::string> bytes_of_id;
  };

  ByteLevelBpe(TokenizerSettings settings, TokenizerFiles files, Parts parts)
      : Tokenizer(settings, std::move(files)), parts_(std::move(parts)) {}

  absl::StatusOr<std::vector<int32_t>> Encode(const std::string& text) const override {
    std::string repaired = text;
    RepairUtf8(repaired);
    std::vector<int32_t> ids;
    ids.reserve(repaired.size() / 3);
    MOE_RETURN_IF_ERROR(EncodeAround(parts_.added_raw, &parts_.added_normalized, repaired, ids));
    return ids;
  }

  std::string Decode(std::span<const int32_t> ids) const override {
    std::string text;
    for (const int32_t id : ids) {
      if (id >= 0 && static_cast<size_t>(id) < parts_.bytes_of_id.size()) {
        text += parts_.bytes_of_id[static_cast<size_t>(id)];
      }
    }
    return text;
  }

 private:
  // Encodes what lies between occurrences of `tokens`: around those of `then`, if any.
  absl::Status EncodeAround(const AddedTokens& tokens, const AddedTokens* then,
                            std::string_view text, std::vector<int32_t>& ids) const {
    for (size_t begin = 0; begin < text.size();) {
      const AddedTokens::Match match = tokens.Find(text, begin);
      const std::string_view between = text.substr(begin, match.begin - begin);
      MOE_RETURN_IF_ERROR(then != nullptr ? EncodeAround(*then, nullptr, between, ids)
                                          : EncodePlain(between, ids));
      if (match.size > 0) ids.push_back(match.id);
      begin = match.begin + match.size;
    }
    return absl::OkStatus();
  }

  absl::Status EncodePlain(std::string_view text, std::vector<int32_t>& ids) const {
    if (text.empty()) return absl::OkStatus();
    if (parts_.splitters.known == Splitters::Known::kNone) return EncodeByRegex(text, ids);
    const bool single_digits = parts_.splitters.known == Splitters::Known::kSingleDigitsThenGpt2;
    std::vector<std::string_view> words;
    for (size_t begin = 0; begin < text.size();) {
      bool is_ascii = false;
      const size_t end = IndependentStretch(text, begin, is_ascii);
      const std::string_view stretch = text.substr(begin, end - begin);
      begin = end;
      if (!is_ascii) {
        MOE_RETURN_IF_ERROR(EncodeByRegex(stretch, ids));
        continue;
      }
      words.clear();
      SplitAsciiWords(stretch, single_digits, words);
      for (const std::string_view word : words) parts_.merger->Encode(word, ids);
    }
    return absl::OkStatus();
  }

  absl::Status EncodeByRegex(std::string_view text, std::vector<int32_t>& ids) const {
    std::vector<std::string_view> pieces = {text}, split;
    for (const auto& splitter : parts_.splitters.steps) {
      split.clear();
      for (const std::string_view piece : pieces) {
        MOE_RETURN_IF_ERROR(splitter->Split(piece, split));
      }
      pieces.swap(split);
    }
    for (const std::string_view piece : pieces) parts_.merger->Encode(piece, ids);
    return absl::OkStatus();
  }

  const Parts parts_;
};

// A field that must be absent, null or `allowed`.
absl::Status RequireUnset(const Json& object, const std::string& field, const Json& allowed,
                          const std::string& path) {
  const auto it = object.find(field);
  if (it == object.end() || it->is_null() || *it == allowed) return absl::OkStatus();
  return InvalidArgument("{}: {} = {} is not supported", path, field, it->dump().substr(0, 200));
}

absl::Status AddSplitter(const Json& step, const std::string& path,
                         std::vector<std::unique_ptr<RegexSplitter>>& splitters) {
  JsonReader reader(step, path + ": pre_tokenizer");
  const std::string type = reader.String("type");
  if (type == "Digits") {
    const bool individual = reader.Bool("individual_digits", false);
    MOE_RETURN_IF_ERROR(reader.status());
    MOE_ASSIGN_OR_RETURN(splitters.emplace_back(), RegexSplitter::CreateDigits(individual));
    return absl::OkStatus();
  }
  if (type == "Split") {
    const std::string behavior = reader.String("behavior");
    const bool invert = reader.Bool("invert", false);
    JsonReader pattern(reader.Object("pattern"), reader.path() + ".pattern");
    const std::string regex = pattern.String("Regex");
    MOE_RETURN_IF_ERROR(reader.status());
    MOE_RETURN_IF_ERROR(pattern.status());
    if (behavior != "Isolated" || invert) {
      return InvalidArgument(
          "{}: a Split with behavior {} and invert {}; only Isolated without "
          "invert is supported",
          reader.path(), behavior, invert);
    }
    MOE_ASSIGN_OR_RETURN(splitters.emplace_back(), RegexSplitter::Create(regex));
    return absl::OkStatus();
  }
  MOE_RETURN_IF_ERROR(reader.status());
  return InvalidArgument(
      "{}: step {} is not supported; known are Digits, Split and a final "
      "ByteLevel",
      reader.path(), type);
}

absl::StatusOr<Splitters> ReadPreTokenizer(const Json& pre_tokenizer, const std::string& path) {
  JsonReader reader(pre_tokenizer, path + ": pre_tokenizer");
  Json steps = Json::array({pre_tokenizer});
  if (reader.String("type") == "Sequence") steps = reader.Array("pretokenizers");
  MOE_RETURN_IF_ERROR(reader.status());
  Splitters splitters;
  for (size_t i = 0; i + 1 < steps.size(); ++i) {
    MOE_RETURN_IF_ERROR(AddSplitter(steps[i], path, splitters.steps));
  }
  if (steps.empty()) return InvalidArgument("{}: pre_tokenizer is an empty Sequence", path);
  JsonReader last(steps.back(), path + ": pre_tokenizer");
  if (last.String("type") != "ByteLevel") {
    return InvalidArgument(
        "{}: the pre_tokenizer ends with {}, not with ByteLevel, so this is no byte-level BPE; for "
        "a SentencePiece model pass its tokenizer.model",
        path, last.String("type"));
  }
  if (last.Bool("add_prefix_space", false)) {
    return InvalidArgument("{}: ByteLevel with add_prefix_space is not supported", path);
  }
  if (last.Bool("use_regex", true)) {
    MOE_ASSIGN_OR_RETURN(splitters.steps.emplace_back(), RegexSplitter::Create(kGpt2Pattern));
    if (steps.size() == 1) splitters.known = Splitters::Known::kGpt2;
    if (steps.size() == 2 && steps[0].value("type", "") == "Digits" &&
        steps[0].value("individual_digits", false)) {
      splitters.known = Splitters::Known::kSingleDigitsThenGpt2;
    }
  }
  MOE_RETURN_IF_ERROR(last.status());
  return splitters;
}

absl::StatusOr<std::pair<std::string, std::string>> ReadMerge(const Json& merge,
                                                              const std::string& path) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return std::pair(merge[0].get<std::string>(), merge[1].get<std::string>());
  }
  if (merge.is_string()) {
    const std::string text = merge.get<std::string>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return std::pair(text.substr(0, space), text.substr(space + 1));
    }
  }
  return InvalidArgument("{}: model.merges: expected two tokens, got {}", path, merge.dump());
}

// The name of the token that the post-processor puts first, or "".
std::string TemplateBos(const Json& post_processor) {
  if (!post_processor.is_object()) return "";
  const std::string type = post_processor.value("type", "");
  if (type == "Sequence" && post_processor.contains("processors")) {
    for (const Json& processor : post_processor.at("processors")) {
      const std::string bos = TemplateBos(processor);
      if (!bos.empty()) return bos;
    }
  }
  if (type == "TemplateProcessing" && post_processor.contains("single")) {
    const Json& single = post_processor.at("single");
    if (single.is_array() && !single.empty() && single[0].is_object() &&
        single[0].contains("SpecialToken") && single[0].at("SpecialToken").is_object()) {
      return single[0].at("SpecialToken").value("id", "");
    }
  }
  return "";
}

// "bos_token" of tokenizer_config.json: a string, or an object with "content".
std::string NamedToken(const Json& config, const std::string& field) {
  const auto it = config.find(field);
  if (it == config.end()) return "";
  if (it->is_string()) return it->get<std::string>();
  if (it->is_object() && it->contains("content") && it->at("content").is_string()) {
    return it->at("content").get<std::string>();
  }
  return "";
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeByteLevelBpe(TokenizerFiles files) {
  const std::string& path = files.source;
  MOE_ASSIGN_OR_RETURN(const Json root, ParseJson(files.files.at("tokenizer.json"), path));
  JsonReader reader(root, path);
  JsonReader model(reader.Object("model"), path + ": model");
  MOE_RETURN_IF_ERROR(reader.status());
  const std::string type = model.String("type", "BPE");
  if (type != "BPE") {
    return InvalidArgument(
        "{}: a tokenizer of type {}; byte-level BPE can be read, and "
        "SentencePiece from its tokenizer.model",
        path, type);
  }
  MOE_RETURN_IF_ERROR(RequireUnset(root, "normalizer", nullptr, path));
  const Json& model_json = root.at("model");
  MOE_RETURN_IF_ERROR(RequireUnset(model_json, "continuing_subword_prefix", "", path));
  MOE_RETURN_IF_ERROR(RequireUnset(model_json, "end_of_word_suffix", "", path));
  MOE_RETURN_IF_ERROR(RequireUnset(model_json, "byte_fallback", false, path));
  MOE_RETURN_IF_ERROR(RequireUnset(model_json, "dropout", 0.0, path));

  ByteLevelBpe::Parts parts;
  MOE_ASSIGN_OR_RETURN(parts.splitters, ReadPreTokenizer(reader.Object("pre_tokenizer"), path));

  // Vocabulary of the model, then the added tokens, which may repeat it or go beyond it.
  BpeMerger::Options options;
  absl::flat_hash_map<std::string, int32_t> id_of_token;
  int64_t vocab_size = 0;
  const auto place = [&](const std::string& token, const Json& id) -> absl::StatusOr<int32_t> {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 ||
        id.get<int64_t>() >= std::numeric_limits<int32_t>::max()) {
      return InvalidArgument("{}: token '{}' has the id {}", path, token, id.dump());
    }
    id_of_token[token] = id.get<int32_t>();
    vocab_size = std::max(vocab_size, id.get<int64_t>() + 1);
    return id.get<int32_t>();
  };
  for (const auto& [token, id] : model.Object("vocab").items()) {
    MOE_ASSIGN_OR_RETURN(const int32_t placed, place(token, id));
    options.vocabulary.emplace_back(BytesOfToken(token), placed);
  }
  std::vector<std::pair<std::string, int32_t>> raw, normalized;
  for (const Json& item : reader.Array("added_tokens")) {
    JsonReader token(item, path + ": added_tokens");
    const std::string content = token.String("content");
    for (const char* option : {"lstrip", "rstrip", "single_word"}) {
      if (token.Bool(option, false)) {
        return InvalidArgument("{}: added token '{}' with {} is not supported", path, content,
                               option);
      }
    }
    const bool is_normalized = token.Bool("normalized", true);
    MOE_RETURN_IF_ERROR(token.status());
    MOE_ASSIGN_OR_RETURN(const int32_t id, place(content, item.value("id", Json())));
    (is_normalized ? normalized : raw).emplace_back(content, id);
  }
  for (const Json& item : model.Array("merges")) {
    MOE_ASSIGN_OR_RETURN(const auto merge, ReadMerge(item, path));
    options.rules.push_back({.left = BytesOfToken(merge.first),
                             .right = BytesOfToken(merge.second),
                             .rank = static_cast<int32_t>(options.rules.size())});
  }
  const std::string unknown = model.String("unk_token", "");
  options.fuse_unknown = model.Bool("fuse_unk", false);
  options.ignore_merges = model.Bool("ignore_merges", false);
  MOE_RETURN_IF_ERROR(reader.status());
  MOE_RETURN_IF_ERROR(model.status());
  if (!unknown.empty()) {
    const auto it = id_of_token.find(unknown);
    if (it == id_of_token.end()) {
      return InvalidArgument("{}: unk_token '{}' is not in the vocabulary", path, unknown);
    }
    options.unknown_id = it->second;
  }
  auto merger = BpeMerger::Create(options);
  if (!merger.ok()) return Annotate(merger.status(), path);
  parts.merger = *std::move(merger);
  parts.bytes_of_id.resize(static_cast<size_t>(vocab_size));
  for (const auto& [token, id] : id_of_token) {
    parts.bytes_of_id[static_cast<size_t>(id)] = BytesOfToken(token);
  }
  parts.added_raw = AddedTokens(std::move(raw));
  parts.added_normalized = AddedTokens(std::move(normalized));

  TokenizerSettings settings;
  settings.vocab_size = vocab_size;
  Json config = Json::object();
  if (const auto it = files.files.find("tokenizer_config.json"); it != files.files.end()) {
    MOE_ASSIGN_OR_RETURN(config, ParseJson(it->second, path + " (tokenizer_config.json)"));
    if (!config.is_object()) {
      return InvalidArgument("{}: tokenizer_config.json is no JSON object", path);
    }
  }
  const std::string template_bos = TemplateBos(root.value("post_processor", Json()));
  std::string bos = NamedToken(config, "bos_token");
  if (bos.empty()) bos = template_bos;
  const auto id_or_none = [&](const std::string& token) {
    const auto it = id_of_token.find(token);
    return token.empty() || it == id_of_token.end() ? -1 : it->second;
  };
  settings.bos_id = id_or_none(bos);
  settings.eos_id = id_or_none(NamedToken(config, "eos_token"));
  const auto add_bos = config.find("add_bos_token");
  settings.add_bos = add_bos != config.end() && add_bos->is_boolean() ? add_bos->get<bool>()
                                                                      : !template_bos.empty();
  if (settings.add_bos && settings.bos_id < 0) {
    return InvalidArgument("{}: add_bos_token is on and there is no token '{}'", path, bos);
  }
  return std::unique_ptr<Tokenizer>(new ByteLevelBpe(settings, std::move(files), std::move(parts)));
}

}  // namespace moe::sampler
