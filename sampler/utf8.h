// Making text valid UTF-8, the way every reference decoder does.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace moe::sampler {

// Replaces every maximal ill-formed part by U+FFFD, as Python's bytes.decode("utf-8", "replace")
// and the WHATWG decoder do (Unicode 15, section 3.9, "Substitution of Maximal Subparts"). Returns
// how many replacements there were; the text is untouched where there are none.
int64_t RepairUtf8(std::string& text);

// How many bytes the character at `offset` of valid UTF-8 has.
inline size_t CharacterBytes(std::string_view text, size_t offset) {
  const auto lead = static_cast<unsigned char>(text[offset]);
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

// How many characters (code points) valid UTF-8 has.
int64_t CountCharacters(const std::string& text);

// The first `count` characters of valid UTF-8.
std::string FirstCharacters(const std::string& text, int64_t count);

}  // namespace moe::sampler
