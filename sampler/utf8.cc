#include "sampler/utf8.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace moe::sampler {
namespace {

// The length of the well-formed sequence at `p`, or minus the length of the ill-formed part.
// Table 3-7 of the Unicode standard. `p` < `end`.
int SequenceLength(const unsigned char* p, const unsigned char* end) {
  const unsigned char lead = p[0];
  if (lead < 0x80) return 1;
  int length;
  unsigned char low = 0x80, high = 0xBF;  // bounds of the second byte
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return -1;
  }
  for (int i = 1; i < length; ++i) {
    if (p + i >= end || p[i] < low || p[i] > high) return -i;
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

bool StartsCharacter(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }

}  // namespace

int64_t RepairUtf8(std::string& text) {
  const auto* begin = reinterpret_cast<const unsigned char*>(text.data());
  const unsigned char* const end = begin + text.size();
  int64_t replaced = 0;
  std::string repaired;
  const unsigned char* copied = begin;  // everything before is in `repaired`
  for (const unsigned char* p = begin; p < end;) {
    uint64_t word;
    if (end - p >= 8 && (std::memcpy(&word, p, 8), (word & 0x8080808080808080) == 0)) {
      p += 8;
      continue;
    }
    const int length = SequenceLength(p, end);
    if (length > 0) {
      p += length;
      continue;
    }
    repaired.append(copied, p);
    repaired += "\xEF\xBF\xBD";
    ++replaced;
    p -= length;
    copied = p;
  }
  if (replaced > 0) {
    repaired.append(copied, end);
    text = std::move(repaired);
  }
  return replaced;
}

int64_t CountCharacters(const std::string& text) {
  return std::count_if(text.begin(), text.end(), StartsCharacter);
}

std::string FirstCharacters(const std::string& text, int64_t count) {
  size_t end = 0;
  while (end < text.size() && (!StartsCharacter(text[end]) || count-- > 0)) ++end;
  return text.substr(0, end);
}

}  // namespace moe::sampler
