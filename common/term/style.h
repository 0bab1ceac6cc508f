// Colours, and how wide a text is on a terminal.
#pragma once

#include <cstddef>
#include <string>

namespace moe::term {

enum class Style { kPlain, kBold, kDim, kGreen, kYellow, kRed, kCyan };

// `text` between the escape sequences of `style`; unchanged where `color` is false.
std::string Paint(const std::string& text, Style style, bool color);

// `text` without our escape sequences.
std::string Plain(const std::string& text);

// Columns that UTF-8 `text` takes: one per code point, none for escape sequences.
size_t DisplayWidth(const std::string& text);

// `text` cut to `width` columns, with "..." at its end where something was cut. `text` must hold no
// escape sequences.
std::string Truncate(const std::string& text, size_t width);

}  // namespace moe::term
