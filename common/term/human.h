// Numbers as people read and write them.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace moe::term {

// "0s", "850ms", "4.2s", "45s", "2m10s", "3h05m", "5d03h". Negative durations count as 0.
std::string FormatDuration(double seconds);

// As FormatDuration, in whole seconds and with one unit above a minute: "12s", "3m", "2h", "5d".
std::string FormatAge(double seconds);

// "812 B", "1.5 KiB", "270.2 MiB".
std::string FormatBytes(uint64_t bytes);

// "812", "12.3k", "1.2M", "2.5G".
std::string FormatCount(double value);

// Milliseconds from "500ms", "30", "30s", "2m", "1.5h"; a number alone is in seconds.
// INVALID_ARGUMENT for anything else, and for negative numbers.
absl::StatusOr<int64_t> ParseDurationMillis(const std::string& text);

}  // namespace moe::term
