#include "common/term/style.h"

#include <algorithm>

namespace moe::term {
namespace {

const char* Code(Style style) {
  switch (style) {
    case Style::kPlain:
      return "";
    case Style::kBold:
      return "\x1b[1m";
    case Style::kDim:
      return "\x1b[2m";
    case Style::kGreen:
      return "\x1b[32m";
    case Style::kYellow:
      return "\x1b[33m";
    case Style::kRed:
      return "\x1b[31m";
    case Style::kCyan:
      return "\x1b[36m";
  }
  return "";
}

bool IsContinuationByte(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

}  // namespace

std::string Paint(const std::string& text, Style style, bool color) {
  if (!color || style == Style::kPlain || text.empty()) return text;
  return Code(style) + text + "\x1b[0m";
}

std::string Plain(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\x1b') {
      // Our sequences are "ESC [ digits m".
      while (i < text.size() && text[i] != 'm') ++i;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

size_t DisplayWidth(const std::string& text) {
  const std::string plain = Plain(text);
  return static_cast<size_t>(
      std::count_if(plain.begin(), plain.end(), [](char c) { return !IsContinuationByte(c); }));
}

std::string Truncate(const std::string& text, size_t width) {
  if (DisplayWidth(text) <= width) return text;
  const std::string ellipsis = width >= 3 ? "..." : std::string(width, '.');
  const size_t kept_columns = width - ellipsis.size();
  size_t end = 0;
  for (size_t columns = 0; end < text.size(); ++end) {
    if (IsContinuationByte(text[end])) continue;
    if (columns == kept_columns) break;
    ++columns;
  }
  return text.substr(0, end) + ellipsis;
}

}  // namespace moe::term
