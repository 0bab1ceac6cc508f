#include "sampler/tokenizer/byte_alphabet.h"

#include <array>
#include <cstdint>

namespace moe::sampler {
namespace {

constexpr int kAlphabetEnd = 256 + 68;  // one past the largest character

struct Alphabet {
  std::array<int, 256> character_of_byte{};
  std::array<int, kAlphabetEnd> byte_of_character{};  // -1: none

  constexpr Alphabet() {
    for (int& byte : byte_of_character) byte = -1;
    int next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
                             (byte >= 0xAE && byte <= 0xFF);
      const int character = printable ? byte : next++;
      character_of_byte[static_cast<size_t>(byte)] = character;
      byte_of_character[static_cast<size_t>(character)] = byte;
    }
  }
};
constexpr Alphabet kAlphabet;

}  // namespace

std::string BytesOfToken(const std::string& token) {
  std::string bytes;
  for (size_t i = 0; i < token.size(); ++i) {
    // Every character of the alphabet has one or two bytes.
    int character = static_cast<unsigned char>(token[i]);
    if (character >= 0x80) {
      if ((character & 0xE0) != 0xC0 || i + 1 == token.size()) return token;
      character = (character & 0x1F) << 6 | (static_cast<unsigned char>(token[++i]) & 0x3F);
    }
    const int byte =
        character < kAlphabetEnd ? kAlphabet.byte_of_character[static_cast<size_t>(character)] : -1;
    if (byte < 0) return token;
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

std::string TokenOfBytes(const std::string& bytes) {
  std::string token;
  for (const char byte : bytes) {
    const int character = kAlphabet.character_of_byte[static_cast<unsigned char>(byte)];
    if (character < 0x80) {
      token += static_cast<char>(character);
    } else {
      token += static_cast<char>(0xC0 | character >> 6);
      token += static_cast<char>(0x80 | (character & 0x3F));
    }
  }
  return token;
}

}  // namespace moe::sampler
