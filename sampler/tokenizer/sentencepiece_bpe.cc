#include "sampler/tokenizer/sentencepiece_bpe.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string_view>

#include "sampler/utf8.h"

namespace moe::sampler {
namespace {

constexpr std::string_view kMetaSpace = "\xE2\x96\x81";  // U+2581, how pieces spell a blank

// One field of a protobuf message.
struct Field {
  uint32_t number = 0;
  uint64_t value = 0;      // of a varint or a fixed one
  std::string_view bytes;  // of a string or a message
};

// Reads the next field off `message`; false at its end, and where it is malformed, which empties it
// and sets `broken`.
bool NextField(std::string_view& message, Field& field, bool& broken) {
  if (message.empty()) return false;
  const auto varint = [&]() -> uint64_t {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && !message.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(message[0]);
      message.remove_prefix(1);
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    broken = true;
    return 0;
  };
  const uint64_t tag = varint();
  field = {static_cast<uint32_t>(tag >> 3), 0, {}};
  size_t size = 0;
  switch (tag & 7) {
    case 0:
      field.value = varint();
      return !broken;
    case 1:
      size = 8;
      break;
    case 2:
      size = varint();
      break;
    case 5:
      size = 4;
      break;
    default:
      broken = true;
  }
  if (broken || size > message.size()) {
    broken = true;
    message = {};
    return false;
  }
  field.bytes = message.substr(0, size);
  message.remove_prefix(size);
  if ((tag & 7) != 2) std::memcpy(&field.value, field.bytes.data(), size);
  return true;
}

// Numbers of sentencepiece_model.proto.
enum PieceType : uint64_t { kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6 };
constexpr uint64_t kModelTypeBpe = 2;

struct Piece {
  std::string text;  // with blanks for U+2581
  float score = 0;
  uint64_t type = kNormal;
};

Piece ReadPiece(std::string_view message, bool& broken) {
  Piece piece;
  for (Field field; NextField(message, field, broken);) {
    if (field.number == 1) piece.text = std::string(field.bytes);
    if (field.number == 2) {
      const auto bits = static_cast<uint32_t>(field.value);
      std::memcpy(&piece.score, &bits, sizeof bits);
    }
    if (field.number == 3) piece.type = field.value;
  }
  return piece;
}

// Whether trainer_spec and normalizer_spec say what FromModel() asks for.
bool IsPlainBpe(std::string_view message, bool& broken) {
  bool bpe = false, byte_fallback = false, space_as_suffix = false;
  bool dummy_prefix = true, remove_extra_spaces = true, escape_spaces = true, normalizes = false;
  for (Field field; NextField(message, field, broken);) {
    std::string_view inner = field.bytes;
    for (Field of; (field.number == 2 || field.number == 3) && NextField(inner, of, broken);) {
      if (field.number == 2 && of.number == 3) bpe = of.value == kModelTypeBpe;
      if (field.number == 2 && of.number == 24) space_as_suffix = of.value != 0;
      if (field.number == 2 && of.number == 35) byte_fallback = of.value != 0;
      if (field.number == 3 && of.number == 2) normalizes = !of.bytes.empty();
      if (field.number == 3 && of.number == 3) dummy_prefix = of.value != 0;
      if (field.number == 3 && of.number == 4) remove_extra_spaces = of.value != 0;
      if (field.number == 3 && of.number == 5) escape_spaces = of.value != 0;
    }
  }
  return bpe && byte_fallback && !space_as_suffix && !normalizes && dummy_prefix &&
         !remove_extra_spaces && escape_spaces;
}

void ReplaceMetaSpaces(std::string& text) {
  for (size_t at = text.find(kMetaSpace); at != std::string::npos; at = text.find(kMetaSpace, at)) {
    text.replace(at, kMetaSpace.size(), " ");
  }
}

}  // namespace

std::optional<SentencePieceBpe> SentencePieceBpe::FromModel(const std::string& serialized) {
  bool broken = false;
  if (!IsPlainBpe(serialized, broken)) return std::nullopt;
  std::vector<Piece> pieces;
  std::string_view message = serialized;
  for (Field field; NextField(message, field, broken);) {
    if (field.number == 1) pieces.push_back(ReadPiece(field.bytes, broken));
  }
  if (broken) return std::nullopt;

  BpeMerger::Options options;
  options.by_character = true;
  options.byte_ids.fill(-1);
  std::map<float, int32_t, std::greater<>> rank_of_score;
  std::map<std::string, float> score_of_text;
  for (size_t id = 0; id < pieces.size(); ++id) {
    Piece& piece = pieces[id];
    if (piece.type == kByte) {  // "<0x0A>"
      if (piece.text.size() != 6) return std::nullopt;
      const auto byte = std::strtoul(piece.text.c_str() + 3, nullptr, 16);
      options.byte_ids[byte & 0xFF] = static_cast<int32_t>(id);
    } else if (piece.type == kNormal) {
      ReplaceMetaSpaces(piece.text);
      options.vocabulary.emplace_back(piece.text, static_cast<int32_t>(id));
      score_of_text[piece.text] = piece.score;
      rank_of_score[piece.score] = 0;
    } else if (piece.type != kUnknown && piece.type != kControl) {
      return std::nullopt;
    }
  }
  if (std::count(options.byte_ids.begin(), options.byte_ids.end(), -1) > 0) return std::nullopt;
  int32_t rank = 0;
  for (auto& [score, its_rank] : rank_of_score) its_rank = rank++;

  std::bitset<65536> joins;
  for (const auto& [text, score] : score_of_text) {
    for (size_t cut = text.empty() ? 0 : CharacterBytes(text, 0); cut < text.size();
         cut += CharacterBytes(text, cut)) {
      joins[static_cast<size_t>(static_cast<unsigned char>(text[cut - 1])) << 8 |
            static_cast<unsigned char>(text[cut])] = true;
      const std::string left = text.substr(0, cut), right = text.substr(cut);
      // A single character that is no piece can be merged all the same by the library.
      for (const std::string& part : {left, right}) {
        if (CharacterBytes(part, 0) == part.size() && !score_of_text.contains(part)) {
          return std::nullopt;
        }
      }
      if (score_of_text.contains(left) && score_of_text.contains(right)) {
        options.rules.push_back({left, right, rank_of_score[score]});
      }
    }
  }
  auto merger = BpeMerger::Create(options);
  if (!merger.ok()) return std::nullopt;
  SentencePieceBpe bpe(*std::move(merger));
  bpe.joins_ = joins;
  return bpe;
}

void SentencePieceBpe::Encode(const std::string& text, std::vector<int32_t>& ids) const {
  if (text.empty()) return;
  std::string spaced;
  spaced.reserve(text.size() + 1);
  spaced = " ";
  spaced += text;
  ReplaceMetaSpaces(spaced);
  const std::string_view rest = spaced;
  size_t begin = 0;
  for (size_t i = 1; i < spaced.size(); ++i) {
    // Inside a character there is no boundary.
    if ((static_cast<unsigned char>(spaced[i]) & 0xC0) == 0x80) continue;
    if (MayJoin(spaced[i - 1], spaced[i])) continue;
    merger_.Encode(rest.substr(begin, i - begin), ids);
    begin = i;
  }
  merger_.Encode(rest.substr(begin), ids);
}

}  // namespace moe::sampler
