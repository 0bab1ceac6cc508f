#include "sampler/heldout.h"

#include <algorithm>

#include "common/crc32c.h"
#include "common/philox.h"

namespace moe::sampler {
namespace {

constexpr char kBlank[] = " \t\r\n";

// The place right after a `separator`, with text on both sides, that is nearest to `middle`.
std::optional<size_t> NearestBreak(const std::string& text, const std::string& separator,
                                   size_t middle) {
  const size_t first_text = text.find_first_not_of(kBlank);
  const size_t last_text = text.find_last_not_of(kBlank);
  if (last_text == std::string::npos || last_text < separator.size()) return std::nullopt;
  const size_t last_separator = last_text - separator.size();  // where one may begin at the latest
  const size_t before = text.rfind(separator, std::min(middle, last_separator));
  const size_t after = text.find(separator, std::max(middle, first_text));
  const bool has_before = before != std::string::npos && before > first_text;
  const bool has_after = after != std::string::npos && after <= last_separator;
  if (!has_before && !has_after) return std::nullopt;
  const bool take_after = has_after && (!has_before || after - middle < middle - before);
  return (take_after ? after : before) + separator.size();
}

}  // namespace

bool IsHeldout(const std::string& text, double fraction) {
  // Philox spreads the checksum, whose bits are linear in those of the text.
  const uint64_t size = text.size();
  const std::array<uint32_t, 4> words =
      Philox4x32({Crc32c(text.data(), text.size()), static_cast<uint32_t>(size),
                  static_cast<uint32_t>(size >> 32), 0},
                 /*key=*/0);
  return UniformDouble(words[0], words[1]) < fraction;
}

std::optional<std::pair<std::string, std::string>> CutDocument(const std::string& text,
                                                               double fraction) {
  const auto middle = static_cast<size_t>(static_cast<double>(text.size()) * (1.0 - fraction));
  for (const char* separator : {"\n\n", "\n", " "}) {
    if (const std::optional<size_t> cut = NearestBreak(text, separator, middle)) {
      return std::pair(text.substr(0, *cut), text.substr(*cut));
    }
  }
  return std::nullopt;
}

}  // namespace moe::sampler
