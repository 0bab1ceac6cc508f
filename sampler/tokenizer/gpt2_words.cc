#include "sampler/tokenizer/gpt2_words.h"

#include <array>
#include <cstdint>

namespace moe::sampler {
namespace {

enum Class : uint8_t { kOther, kLetter, kDigit, kSpace, kNotAscii };

constexpr std::array<Class, 256> kClasses = [] {
  std::array<Class, 256> classes{};
  for (int c = 0; c < 256; ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool space = c == ' ' || (c >= '\t' && c <= '\r');
    classes[static_cast<size_t>(c)] = c >= 0x80                ? kNotAscii
                                      : letter                 ? kLetter
                                      : (c >= '0' && c <= '9') ? kDigit
                                      : space                  ? kSpace
                                                               : kOther;
  }
  return classes;
}();

Class ClassOf(char c) { return kClasses[static_cast<unsigned char>(c)]; }

// The length of 's, 't, 're, 've, 'm, 'll or 'd at the beginning, or 0.
size_t Contraction(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const char first = text[1], second = text.size() > 2 ? text[2] : '\0';
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  const bool two = (first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
                   (first == 'l' && second == 'l');
  return two ? 3 : 0;
}

}  // namespace

size_t IndependentStretch(std::string_view text, size_t begin, bool& is_ascii) {
  size_t i = begin;
  while (i < text.size() && ClassOf(text[i]) == kSpace) ++i;
  is_ascii = true;
  for (Class previous = kSpace; i < text.size(); ++i) {
    const Class current = ClassOf(text[i]);
    if (current == kNotAscii) is_ascii = false;
    if (current == kSpace && previous != kSpace && previous != kNotAscii) break;
    previous = current;
  }
  return i;
}

void SplitAsciiWords(std::string_view text, bool single_digits,
                     std::vector<std::string_view>& words) {
  size_t i = 0;
  const auto take = [&](size_t end) {
    words.push_back(text.substr(i, end - i));
    i = end;
  };
  while (i < text.size()) {
    size_t start = i;  // of what is no white space
    while (start < text.size() && ClassOf(text[start]) == kSpace) ++start;
    const bool at_end = start == text.size() || (single_digits && ClassOf(text[start]) == kDigit);
    if (start > i) {
      // White space gives its last character to what follows: a blank becomes part of that word,
      // and another a word of its own.
      if (at_end) {
        take(start);
        continue;
      }
      if (start - i > 1) take(start - 1);
      if (text[i] != ' ') take(start);
    }
    // Here i == start, or a blank is at i and start is next to it.
    const Class kind = ClassOf(text[start]);
    if (kind == kDigit && single_digits) {
      take(start + 1);
      continue;
    }
    if (start == i) {
      if (const size_t length = Contraction(text.substr(i)); length > 0) {
        take(i + length);
        continue;
      }
    }
    size_t end = start + 1;
    while (end < text.size() && ClassOf(text[end]) == kind) ++end;
    take(end);
  }
}

}  // namespace moe::sampler
