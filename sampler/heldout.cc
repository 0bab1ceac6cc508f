#include "sampler/heldout.h"

#include <algorithm>

#include "common/crc32c.h"
#include "common/philox.h"

namespace moe::sampler {
namespace {

constexpr char kBlank[] = " \t\r\n";

// The last place at or before `middle`, or the first after it, whichever is nearer, right after a
// `separator` and with text on both sides.
std::optional<size_t> NearestBreak(const std::string& text, const std::string& separator,
                                   size_t middle) {
  const size_t first_text = text.find_first_not_of(kBlank);
  const size_t last_text = text.find_last_not_of(kBlank);
  std::optional<size_t> best;
  const auto consider = [&](size_t found) {
    if (found == std::string::npos) return;
    const size_t cut = found + separator.size();
    if (cut <= first_text || cut > last_text) return;
    const auto distance = [&](size_t at) { return at > middle ? at - middle : middle - at; };
    if (!best.has_value() || distance(cut) < distance(*best)) best = cut;
  };
  consider(text.rfind(separator, middle));
  consider(text.find(separator, middle));
  return best;
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
