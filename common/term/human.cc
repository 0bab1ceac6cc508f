#include "common/term/human.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "common/status.h"

namespace moe::term {
namespace {

constexpr int64_t kMinute = 60;
constexpr int64_t kHour = 60 * kMinute;
constexpr int64_t kDay = 24 * kHour;

}  // namespace

std::string FormatDuration(double seconds) {
  if (!(seconds > 0)) return "0s";
  if (seconds < 0.9995) return fmt::format("{:.0f}ms", std::ceil(seconds * 1000));
  if (seconds < 9.95) return fmt::format("{:.1f}s", seconds);
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < kMinute) return fmt::format("{}s", whole);
  if (whole < kHour) return fmt::format("{}m{:02}s", whole / kMinute, whole % kMinute);
  if (whole < kDay) return fmt::format("{}h{:02}m", whole / kHour, whole % kHour / kMinute);
  return fmt::format("{}d{:02}h", whole / kDay, whole % kDay / kHour);
}

std::string FormatAge(double seconds) {
  const auto whole = static_cast<int64_t>(std::max(0.0, seconds));
  if (whole < 2 * kMinute) return fmt::format("{}s", whole);
  if (whole < 2 * kHour) return fmt::format("{}m", whole / kMinute);
  if (whole < 2 * kDay) return fmt::format("{}h", whole / kHour);
  return fmt::format("{}d", whole / kDay);
}

std::string FormatBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  // 1023.95 would print as 1024.0.
  while (value >= 1023.95 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string FormatCount(double value) {
  static constexpr const char* kUnits[] = {"k", "M", "G", "T"};
  if (value < 999.5) return fmt::format("{:.0f}", value);
  value /= 1000;
  size_t unit = 0;
  while (value >= 999.95 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{:.1f}{}", value, kUnits[unit]);
}

absl::StatusOr<int64_t> ParseDurationMillis(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const std::string unit(end);
  double millis = 0;
  if (unit == "ms") {
    millis = value;
  } else if (unit.empty() || unit == "s") {
    millis = value * 1000;
  } else if (unit == "m") {
    millis = value * 1000 * kMinute;
  } else if (unit == "h") {
    millis = value * 1000 * kHour;
  } else {
    end = const_cast<char*>(text.c_str());
  }
  if (end == text.c_str() || !std::isfinite(millis) || millis < 0 || millis > 1e15) {
    return InvalidArgument(
        "'{}' is not a duration: write a number of seconds, or a number with ms, s, m or h, such "
        "as 90s or 2m",
        text);
  }
  return std::llround(millis);
}

}  // namespace moe::term
